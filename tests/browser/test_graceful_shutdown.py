"""docs/recipes/graceful_shutdown.md: what a browser does while it is replaced."""

import signal
import sys
from contextlib import AbstractContextManager

import pytest
from playwright.sync_api import Page, Route, expect

from cookbook.catalog import ROOT
from tests.kit import servers
from tests.kit.servers import Server, free_port, serve

APP = "tests.servers.watched_graceful_shutdown:app"
SCRIPT = ROOT / "docs/clients/graceful_shutdown.js"
QUICK = {"PAUSE": "0.05", "SOONEST": "300", "LATEST": "600"}
GONE = "the server is being replaced"

pytestmark = pytest.mark.timeout(2 * servers.START + 20)


def start(port: int) -> AbstractContextManager[Server]:
    """Start the recipe on this port."""
    argv = [sys.executable, "-u", "-m", "uvicorn", APP, "--port", str(port)]
    return serve(argv, port, env=QUICK, warm=True)


def numbers(page: Page) -> list[int]:
    """Give the numbers of the orders that the page shows, in order."""
    lines = page.locator("p").all_inner_texts()
    return [int(line.split()[1].rstrip(":")) for line in lines if "order" in line]


def test_chromium_waits_for_the_new_process_and_shows_each_order_once(
    page: Page, page_errors: list[str]
) -> None:
    port = free_port()
    with start(port) as old:
        page.goto(f"{old.url}/openapi.json")
        page.add_script_tag(path=SCRIPT)
        expect(page.get_by_text("order 3: tea no. 3")).to_be_visible()
        old.signal(signal.SIGTERM)
        expect(page.get_by_text(GONE)).to_have_count(1)
        old.wait()
    # It has to find out that nobody listens, and that is no reason to give up.
    refused: list[str] = []
    while not refused:
        page.wait_for_event("console", lambda said: "ERR_" in said.text)
        refused = [text for text in page_errors if "ERR_CONNECTION_REFUSED" in text]
    seen = numbers(page)
    with start(port):
        expect(page.get_by_text(f"order {seen[-1] + 3}:")).to_be_visible()
        shown = numbers(page)
        assert shown == [*range(1, len(shown) + 1)]
        assert page.get_by_text(GONE).count() == 1
        page.goto("about:blank")
    assert all("ERR_" in text for text in page_errors)
    page_errors.clear()


def test_after_a_proxys_502_the_page_makes_a_new_source_behind_its_last_order(
    page: Page, page_errors: list[str]
) -> None:
    away: list[bool] = []

    def proxy(route: Route) -> None:
        if away:
            away.clear()
            route.fulfill(status=502)
        else:
            route.continue_()

    port = free_port()
    with start(port) as server:
        page.goto(f"{server.url}/openapi.json")
        page.route("**/native?*", proxy)
        page.add_script_tag(path=SCRIPT)
        expect(page.get_by_text("order 3: tea no. 3")).to_be_visible()
        away.append(True)
        server.signal(signal.SIGTERM)
        server.wait()
    with start(port):
        page.wait_for_function("document.body.innerText.includes('replaced')")
        seen = numbers(page)
        # One to three seconds after the 502.
        following = page.get_by_text(f"order {seen[-1] + 3}:")
        expect(following).to_be_visible()
        shown = numbers(page)
        assert shown == [*range(1, len(shown) + 1)]
        assert not away
        page.goto("about:blank")
    assert any("502" in text for text in page_errors)
    page_errors.clear()
