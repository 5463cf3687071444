"""docs/recipes/sse_notifications.md: what its page does in a browser."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Page, expect

from tests.kit import servers
from tests.kit.changed import changed
from tests.kit.servers import Server, uvicorn

pytestmark = pytest.mark.timeout(servers.START + 40)

RECIPE = "recipes.sse_notifications:app"
CLOSED = 2  # EventSource.CLOSED
SILENCE = 5000  # milliseconds, as the page has it
ASKED = '"GET /users/ada/events HTTP/1.1" 200 OK'


@pytest.fixture
def server() -> Iterator[Server]:
    """Run the recipe, with accounts that no other test has changed."""
    with uvicorn(RECIPE) as running:
        yield running


def test_the_page_shows_the_snapshot_and_each_change(
    server: Server, page: Page
) -> None:
    page.goto(f"{server.url}/")
    orders = page.locator("#orders tr")
    expect(orders).to_have_count(2)
    assert orders.nth(0).locator("td").all_inner_texts()[:3] == [
        "7",
        "green tea",
        "placed",
    ]
    page.get_by_role("button", name="Make it paid").click()
    expect(orders.nth(0).locator("td").nth(2)).to_have_text("paid")
    expect(page.locator("#status")).to_have_text("Up to date: version 1.")
    # One that somebody else makes is shown as well.
    path = f"{server.url}/users/ada/orders/8"
    assert httpx2.post(path, json={"state": "packed"}).status_code == 200
    expect(orders.nth(1).locator("td").nth(2)).to_have_text("packed")
    expect(orders).to_have_count(2)
    assert server.output().count(ASKED) == 1


def test_two_tabs_show_the_same(server: Server, page: Page) -> None:
    page.goto(f"{server.url}/")
    other = page.context.new_page()
    other.goto(f"{server.url}/")
    page.get_by_label("Message").fill("Ring twice.")
    page.get_by_role("button", name="Send").click()
    for tab in (page, other):
        expect(tab.locator("#messages li")).to_have_text(["Ring twice."])


def test_hostile_text_stays_text(server: Server, page: Page) -> None:
    """Attack: A message holds HTML: the page shows it as text."""
    hostile = "<img src=x onerror=\"document.title='owned'\">"
    page.goto(f"{server.url}/")
    page.get_by_label("Message").fill(hostile)
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#messages li")).to_have_text([hostile])
    assert page.locator("#messages img").count() == 0
    assert page.title() == "sse_notifications"


def test_a_server_that_comes_back_brings_a_new_snapshot(
    page: Page, page_errors: list[str]
) -> None:
    port = servers.free_port()
    argv = [sys.executable, "-u", "-m", "uvicorn", RECIPE, "--port", str(port)]
    with servers.serve(argv, port, warm=True) as first:
        page.goto(f"{first.url}/")
        page.get_by_role("button", name="Make it paid").click()
        page.get_by_label("Message").fill("Forgotten in a moment")
        page.get_by_role("button", name="Send").click()
        expect(page.locator("#messages li")).to_have_count(1)
        first.signal(signal.SIGKILL)
        first.wait()
    expect(page.locator("#status")).to_have_text("Lost; connecting again.")
    with servers.serve(argv, port, warm=True):
        expect(page.locator("#messages li")).to_have_count(0, timeout=20_000)
        state = page.locator("#orders tr").nth(0).locator("td").nth(2)
        expect(state).to_have_text("placed")
        expect(page.locator("#status")).to_have_text("Up to date: version 0.")
        page.goto("about:blank")
    assert all("ERR_" in error for error in page_errors)
    page_errors.clear()


def test_a_connection_that_has_died_without_a_word_is_noticed(
    server: Server, page: Page
) -> None:
    page.clock.install()
    page.goto(f"{server.url}/")
    expect(page.locator("#status")).to_have_text("Up to date: version 0.")
    server.signal(signal.SIGSTOP)  # Its connections stay open, and silent.
    try:
        page.clock.fast_forward(SILENCE)
    finally:
        server.signal(signal.SIGCONT)
    server.expect(ASKED)
    server.expect(ASKED)
    expect(page.locator("#status")).to_have_text("Up to date: version 0.")


def test_after_an_answer_that_ends_event_source_the_page_asks_again(
    server: Server, page: Page, page_errors: list[str]
) -> None:
    events = f"{server.url}/users/ada/events"
    page.clock.install()
    page.route(events, lambda route: route.fulfill(status=503))
    page.goto(f"{server.url}/")
    expect(page.locator("#status")).to_have_text("Lost; connecting again.")
    assert page.evaluate("source.readyState") == CLOSED
    page.unroute(events)
    page.clock.fast_forward(SILENCE)
    expect(page.locator("#status")).to_have_text("Up to date: version 0.")
    assert "503" in page_errors.pop()


OLD, NEW = "HEARTBEAT = 1.0", "HEARTBEAT = 20.0"


def test_break_it_a_page_that_hears_no_heartbeat_asks_again_and_again(
    server: Server, page: Page, tmp_path: Path
) -> None:
    # Before: the page asks once, however long it is open.
    page.clock.install()
    page.goto(f"{server.url}/")
    expect(page.locator("#status")).to_have_text("Up to date: version 0.")
    assert server.output().count(ASKED) == 1
    folder = changed(tmp_path, "sse_notifications", OLD, NEW)
    with uvicorn(RECIPE, cwd=folder) as broken:
        page.goto(f"{broken.url}/")
        for _ in range(3):
            broken.expect(ASKED)
            expect(page.locator("#status")).to_have_text("Up to date: version 0.")
            page.clock.fast_forward(SILENCE)
        broken.expect(ASKED)
        page.goto("about:blank")


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_its_window(
    width: int, scheme: str, server: Server, page: Page
) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    long = "x" * 500
    httpx2.post(f"{server.url}/users/ada/messages", json={"text": long})
    page.goto(f"{server.url}/")
    expect(page.locator("#messages li")).to_have_count(1)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
