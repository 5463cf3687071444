"""docs/recipes/sse_broadcast.md: what a browser hears, also after a cut."""

import signal
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from http.client import HTTPConnection

import pytest
from playwright.sync_api import Page, expect

from cookbook.catalog import ROOT
from tests.kit import servers
from tests.kit.servers import Server, free_port, serve

APP = "tests.servers.watched_sse_broadcast:app"
SCRIPT = ROOT / "docs/clients/sse_broadcast.js"
CLOSED = 2  # EventSource.CLOSED

pytestmark = pytest.mark.timeout(2 * servers.START + 20)


def tell(port: int, number: int) -> None:
    """Tell one order."""
    connection = HTTPConnection(servers.HOST, port, timeout=servers.WAIT)
    connection.request("POST", f"/orders/{number}/paid")
    assert connection.getresponse().status == 202
    connection.close()


def listen(page: Page, server: Server) -> None:
    """Run the page's script on a page of the same server."""
    page.goto(f"{server.url}/openapi.json")
    page.add_script_tag(path=SCRIPT)


@pytest.fixture
def port() -> int:
    """Give a port on which a server can be started again."""
    return free_port()


@pytest.fixture
def server(port: int) -> Iterator[Server]:
    """Run the recipe without its shop."""
    with start(port) as running:
        yield running


def start(port: int) -> AbstractContextManager[Server]:
    """Start the recipe on this port."""
    argv = [sys.executable, "-u", "-m", "uvicorn", APP, "--port", str(port)]
    return serve(argv, port, warm=True)


def test_a_browser_hears_orders_and_gaps(server: Server, page: Page) -> None:
    listen(page, server)
    expect(page.locator("p").last).to_have_text("listening")
    tell(server.port, 7)
    expect(page.locator("p").last).to_have_text("order 7 is paid")


def test_it_is_told_of_a_gap_by_an_event_of_its_own(server: Server, page: Page) -> None:
    body = 'event: missed\ndata: {"events":4}\n\n'
    kind = "text/event-stream"
    page.route("**/events", lambda route: route.fulfill(body=body, content_type=kind))
    listen(page, server)
    expect(page.get_by_text("missed 4 events").first).to_be_visible()


def test_it_connects_again_and_hears_what_happens_from_then_on(
    page: Page, page_errors: list[str], port: int
) -> None:
    with ExitStack() as stack:
        with start(port) as server:
            listen(page, server)
            expect(page.locator("p").last).to_have_text("listening")
            tell(port, 1)
            expect(page.locator("p").last).to_have_text("order 1 is paid")
            server.signal(signal.SIGKILL)
            server.wait()
            expect(page.locator("p").last).to_have_text("lost; connecting again")
        stack.enter_context(start(port))
        expect(page.locator("p").last).to_have_text("listening")
        tell(port, 3)
        expect(page.locator("p").last).to_have_text("order 3 is paid")
        assert page.get_by_text("order 1 is paid").count() == 1
        assert page.evaluate("source.readyState") != CLOSED
        page.evaluate("source.close()")  # or it would notice that this server ends
    page_errors.clear()  # The refused connections of the meantime.
