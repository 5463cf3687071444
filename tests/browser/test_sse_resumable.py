"""docs/recipes/sse_resumable.md: what a browser does when its connection is lost."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.kit import servers
from tests.kit.redis import redis
from tests.kit.servers import HOST, WAIT, Server, free_port, serve, uvicorn

pytestmark = pytest.mark.timeout(servers.START + 30)

QUICK = "tests.servers.watched_sse_resumable:app"
STATES = ["placed", "paid", "packed", "shipped"]
SSE = "text/event-stream"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Run the recipe."""
    with uvicorn(QUICK) as running:
        yield running


def at(port: int, store: str) -> AbstractContextManager[Server]:
    """Serve the recipe on this port."""
    argv = [sys.executable, "-u", "-m", "uvicorn", QUICK, "--port", str(port)]
    return serve(argv, port, env={"STREAM_STORE": store}, warm=True)


def kill(server: Server) -> None:
    """End a server without a goodbye."""
    os.killpg(server.process.pid, signal.SIGKILL)
    server.process.wait(WAIT)


def column(page: Page, number: int) -> Locator:
    return page.locator(f"#events td:nth-child({number})")


def test_chromium_goes_on_through_a_restart_and_shows_each_event_once(
    page: Page, page_errors: list[str]
) -> None:
    port = free_port()
    with redis() as store:
        with at(port, store.url) as server:
            page.goto(f"http://{HOST}:{port}/")
            page.get_by_role("button", name="Place an order").click()
            expect(column(page, 2)).to_have_text(STATES)
            last_id = column(page, 3).last.inner_text()
            kill(server)
        expect(page.locator("#status")).to_have_text("Lost; connecting again.")
        with at(port, store.url) as server:
            server.expect(f"asked for /events after {last_id}")
            page.get_by_role("button", name="Place an order").click()
            expect(column(page, 2)).to_have_text(STATES * 2)
            expect(column(page, 1)).to_have_text(["1"] * 4 + ["2"] * 4)
            ids = column(page, 3).all_inner_texts()
            assert len(set(ids)) == 8
            page.get_by_role("button", name="End the feed").click()
            expect(page.locator("#status")).to_have_text("The feed has ended.")
    refused(page_errors)


def test_in_memory_a_restart_resets_the_table(
    page: Page, page_errors: list[str]
) -> None:
    port = free_port()
    with at(port, "memory") as server:
        page.goto(f"http://{HOST}:{port}/")
        page.get_by_role("button", name="Place an order").click()
        expect(column(page, 2)).to_have_text(STATES)
        kill(server)
    with at(port, "memory"):
        expect(page.locator("#events tr")).to_have_count(0)
        page.get_by_role("button", name="Place an order").click()
        expect(column(page, 1)).to_have_text(["2"] * 4)
        page.get_by_role("button", name="End the feed").click()
        expect(page.locator("#status")).to_have_text("The feed has ended.")
    refused(page_errors)


def refused(page_errors: list[str]) -> None:
    """Take out what Chromium says of a server that is away."""
    while page_errors:
        assert "net::ERR_" in page_errors.pop()


def test_after_the_end_chromium_asks_once_more_and_is_told_to_stay_away(
    page: Page,
) -> None:
    with uvicorn(QUICK) as server:
        page.goto(f"{server.url}/openapi.json")
        # This page does not close its EventSource at the end.
        page.evaluate("window.source = new EventSource('/events')")
        server.expect("asked for /events after none")
        page.evaluate("fetch('/end', { method: 'POST' })")
        server.expect('"GET /events HTTP/1.1" 204 No Content')
        page.wait_for_function("source.readyState === EventSource.CLOSED")
        assert server.output().count("asked for /events") == 2


def test_at_a_reset_chromium_forgets_the_id_that_it_had(page: Page) -> None:
    factory = "tests.servers.watched_sse_resumable:resetting"
    with uvicorn("--factory", factory) as server:
        page.goto(f"{server.url}/openapi.json")
        page.evaluate("window.source = new EventSource('/events')")
        for seen in ("none", "a-1", "none", "b-1"):
            server.expect(f"asked for /events after {seen}\n")
        page.wait_for_function("source.readyState === EventSource.CLOSED")


@pytest.mark.parametrize("status", [500, 502, 503])
def test_after_a_proxys_error_the_page_makes_a_new_source_behind_its_last_id(
    server: Server, page: Page, page_errors: list[str], status: int
) -> None:
    asked: list[str] = []
    first = 'retry: 10\n\nevent: order\nid: a-1\ndata: {"id":5,"state":"paid"}\n\n'
    last = "event: end\nid: a-2\ndata: {}\n\n"
    answers = [(200, first), (status, ""), (200, last)]

    def answer(route: Route) -> None:
        asked.append(route.request.url.rpartition("?")[2])
        code, body = answers.pop(0)
        route.fulfill(status=code, body=body, content_type=SSE)

    page.route("**/events?*", answer)
    page.goto(f"{server.url}/")
    expect(page.locator("#status")).to_have_text("The feed has ended.")
    assert asked == ["after=", "after=", "after=a-1"]
    assert column(page, 2).all_inner_texts() == ["paid"]
    assert str(status) in page_errors.pop()


def test_hostile_text_stays_text(server: Server, page: Page) -> None:
    """Attack: An event and its id hold HTML: the page shows them as text."""
    hostile = "<img src=x onerror=alert(1)>"
    body = f'event: order\nid: {hostile}\ndata: {{"id":"{hostile}","state":"x"}}\n\n'
    end = "event: end\ndata: {}\n\n"
    page.route(
        "**/events?*",
        lambda route: route.fulfill(body=body + end, content_type=SSE),
    )
    page.goto(f"{server.url}/")
    expect(column(page, 1)).to_have_text([hostile])
    assert page.locator("#events img").count() == 0


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_its_window(
    width: int, scheme: str, server: Server, page: Page
) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.goto(f"{server.url}/")
    page.get_by_role("button", name="Place an order").click()
    expect(column(page, 2).first).to_have_text("placed")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
