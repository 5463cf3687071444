"""docs/recipes/sse_keepalive.md: a page notices a connection that died silently."""

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.kit import servers
from tests.kit.changed import changed
from tests.kit.servers import Server, raw_get, uvicorn

pytestmark = pytest.mark.timeout(servers.START + 30)

SILENT = "Silent for too long; connecting again."
PING_EVENT = 'yield ServerSentEvent(data={}, event="ping")'
PING_COMMENT = 'yield ServerSentEvent(comment="ping")'
OPEN, CLOSED = 1, 2  # states of an EventSource
# A second reader of the same feed, without a watchdog; its errors are counted.
BARE = """
window.errors = 0;
window.bare = new EventSource("by-hand?ping=1&quiet=60");
window.bare.onerror = () => window.errors += 1;
true // What ends with a function would be called.
"""
# Everything that an EventSource gives to a page, until the order is delivered.
GIVEN = """
() => new Promise((done) => {
  const given = [];
  const feed = new EventSource("native?quiet=1");
  feed.onmessage = (event) => given.push(event.type);
  feed.addEventListener("ping", (event) => given.push(event.type));
  feed.addEventListener("order", (event) => {
    given.push(event.type);
    if (event.data.includes("delivered")) { feed.close(); done(given); }
  });
})
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Run the recipe."""
    with uvicorn("recipes.sse_keepalive:app") as running:
        yield running


@contextmanager
def frozen(server: Server) -> Iterator[None]:
    """Let a server stand still, as Ctrl+Z does: it keeps its connections, silently."""
    server.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.signal(signal.SIGCONT)


def start(page: Page, server: Server, query: str = "?quiet=60") -> None:
    """Open the recipe's page and start it."""
    page.goto(f"{server.url}/{query}")
    page.get_by_role("button", name="Start").click()


def test_the_page_counts_pings_and_closes_at_the_end(
    server: Server, page: Page
) -> None:
    start(page, server, "?quiet=2.5")
    expect(page.locator("#state")).to_have_text("placed")
    expect(page.locator("#pings")).to_have_text("2")
    expect(page.locator("#status")).to_have_text("The feed is complete.")
    expect(page.locator("#state")).to_have_text("delivered")
    expect(page.locator("#opened")).to_have_text("1")
    assert page.evaluate("source.readyState") == CLOSED


def test_pings_keep_it_connected_for_longer_than_its_patience(
    server: Server, page: Page
) -> None:
    start(page, server)
    expect(page.locator("#pings")).to_have_text("4")
    expect(page.locator("#opened")).to_have_text("1")
    expect(page.locator("#status")).to_have_text("Connected.")


def test_it_notices_a_server_that_falls_silent_and_comes_back(page: Page) -> None:
    with uvicorn("recipes.sse_keepalive:app") as server:
        start(page, server)
        expect(page.locator("#pings")).to_have_text("1")
        page.evaluate(BARE)
        page.wait_for_function("bare.readyState == EventSource.OPEN")
        with frozen(server):
            expect(page.locator("#status")).to_have_text(SILENT)
            # An EventSource by itself has noticed nothing.
            assert page.evaluate("[bare.readyState, errors]") == [OPEN, 0]
        expect(page.locator("#status")).to_have_text("Connected.")
        expect(page.locator("#opened")).to_have_text("2")
        expect(page.locator("#state")).to_have_text("placed")
        # Else it would report that the server is gone.
        page.goto("about:blank")


def test_it_tries_again_for_as_long_as_nobody_answers(page: Page) -> None:
    with uvicorn("recipes.sse_keepalive:app") as server:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        start(page, server)
        expect(page.locator("#pings")).to_have_text("1")
        with frozen(server):
            # Each attempt is given up after the same time, and another one made.
            for _ in range(2):
                with page.expect_request(re.compile("by-hand")):
                    pass
        expect(page.locator("#status")).to_have_text("Connected.")
        assert len([url for url in asked if "by-hand" in url]) >= 3
        page.goto("about:blank")


def test_it_comes_back_after_an_answer_for_which_eventsource_gives_up(
    server: Server, page: Page, page_errors: list[str]
) -> None:
    page.route("**/by-hand*", lambda route: route.fulfill(status=502), times=1)
    start(page, server)
    page.wait_for_function("source.readyState == EventSource.CLOSED")
    expect(page.locator("#status")).to_have_text("Connected.")
    assert page.evaluate("source.readyState") == OPEN
    assert "502" in page_errors.pop()


def test_a_server_that_is_gone_is_a_lost_connection(
    page: Page, page_errors: list[str]
) -> None:
    with uvicorn("recipes.sse_keepalive:app") as server:
        start(page, server)
        expect(page.locator("#pings")).to_have_text("1")
        server.signal(signal.SIGKILL)
        expect(page.locator("#status")).to_have_text("Lost; connecting again.")
        page.goto("about:blank")
    while page_errors:
        assert re.search("ERR_(CONN|INCOMPLETE)", page_errors.pop())


def test_an_eventsource_shows_no_comment_to_its_page(page: Page) -> None:
    impatient = "tests.servers.watched_sse_keepalive:impatient"
    with uvicorn("--factory", impatient) as server:
        with raw_get(server.port, "/native?quiet=1") as answer:
            assert answer.rest().count(b": ping\n\n") >= 3
        page.goto(server.url)
        assert page.evaluate(GIVEN) == ["order", "order"]


def test_break_it_a_ping_that_is_a_comment_makes_the_page_connect_again_and_again(
    server: Server, page: Page, tmp_path: Path
) -> None:
    # Before: the number of pings grows, and there is one connection.
    start(page, server)
    expect(page.locator("#pings")).to_have_text("2")
    expect(page.locator("#opened")).to_have_text("1")
    # The change that the page tells its reader to make, and what it says comes of it.
    folder = changed(tmp_path, "sse_keepalive", PING_EVENT, PING_COMMENT)
    with uvicorn("recipes.sse_keepalive:app", cwd=folder) as broken:
        with raw_get(broken.port, "/by-hand?ping=1") as answer:
            assert b"placed" in answer.chunk()
            assert answer.chunk() == b": ping\n\n"
        start(page, broken)
        for number in ("1", "2"):
            expect(page.locator("#opened")).to_have_text(number)
            with page.expect_request(re.compile("by-hand")):
                pass
        expect(page.locator("#pings")).to_have_text("0")
        page.goto("about:blank")


def test_stop_ends_the_feed_and_its_watchdog_and_start_begins_anew(
    server: Server, page: Page
) -> None:
    start(page, server)
    expect(page.locator("#pings")).to_have_text("1")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#status")).to_have_text("Stopped.")
    assert page.evaluate("source.readyState") == CLOSED
    # Longer than its patience: a timer of the page's own, set after the watchdog's.
    page.evaluate("new Promise((done) => setTimeout(done, PATIENCE + 100))")
    expect(page.locator("#status")).to_have_text("Stopped.")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#status")).to_have_text("Connected.")
    expect(page.locator("#opened")).to_have_text("2")


def test_hostile_text_stays_text(server: Server, page: Page) -> None:
    """Attack: An event holds HTML: the page shows it as text."""
    hostile = "<img src=x onerror=document.title='owned'>"
    feed = f'event: order\ndata: {{"state": "{hostile}"}}\n\nevent: order\n'
    page.route(
        "**/by-hand*",
        lambda route: route.fulfill(body=feed, content_type="text/event-stream"),
    )
    start(page, server, "?quiet=%22%3E%3Cscript%3E&ping=0.1")
    expect(page.locator("#state")).to_have_text(hostile)
    page.get_by_role("button", name="Stop").click()
    assert page.locator("img, body script:not(:last-of-type)").count() == 0
    assert page.title() == "sse_keepalive"


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_its_window(
    width: int, scheme: str, server: Server, page: Page
) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.goto(f"{server.url}/")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_new_eventsource_does_not_say_which_event_it_saw_last(page: Page) -> None:
    asking = "tests.servers.watched_sse_keepalive:asking"
    with uvicorn("--factory", asking) as server:
        start(page, server)
        server.expect("seen: None")
        # The browser's own reconnect says so; what the watchdog opens does not.
        server.expect("seen: b'placed'")
        page.evaluate("connect('As the watchdog does.')")
        server.expect("seen: None")
        page.get_by_role("button", name="Stop").click()
