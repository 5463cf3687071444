"""docs/recipes/sse_basic.md: what a browser does with the feed, and after its end."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.kit.changed import changed
from tests.kit.servers import Server, uvicorn

ROUTES = ["native", "by-hand", "sse-starlette"]
STOP_AT_THE_END = 'stop("The feed is complete.");'
CLOSED = 2  # EventSource.CLOSED


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Run the recipe."""
    with uvicorn("recipes.sse_basic:app") as running:
        yield running


@pytest.mark.parametrize("layer", ROUTES)
def test_the_page_shows_every_event_and_closes_at_the_end(
    layer: str, server: Server, page: Page
) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{server.url}/")
    page.get_by_label("Layer").select_option(layer)
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#status")).to_have_text("The feed is complete.")
    rows = page.locator("#events tr")
    expect(rows).to_have_count(6)
    assert rows.nth(4).locator("td").all_inner_texts() == [
        "note",
        "5",
        "Leave it at the door.\nRing twice.",
    ]
    assert page.evaluate("source.readyState") == CLOSED
    assert asked.count(f"{server.url}/{layer}") == 1


@pytest.mark.timeout(60)
def test_a_lost_connection_brings_the_feed_again_from_its_first_event(
    page: Page,
) -> None:
    with uvicorn("--factory", "tests.servers.watched_sse_basic:short") as server:
        page.goto(f"{server.url}/")
        page.get_by_role("button", name="Start").click()
        server.expect("asked for /native, seen: None")
        expect(page.locator("#status")).to_have_text("The feed is complete.")
        # It says what it has seen, and gets all of it again all the same.
        server.expect("asked for /native, seen: b'2'")
        # So the page begins anew as well: nothing is there twice.
        ids = page.locator("#events td:nth-child(2)").all_inner_texts()
        assert ids == ["1", "2", "3", "4", "5", "end"]
        assert server.output().count("asked for /native") == 2


def served(server: Server, status: str) -> int:
    """Count in the server's log how often the feed was answered so."""
    return server.output().count(f'"GET /native HTTP/1.1" {status}')


@pytest.mark.timeout(60)
def test_break_it_a_page_that_does_not_close_asks_once_more_and_is_told_to_stop(
    server: Server, page: Page, tmp_path: Path
) -> None:
    # Before: the feed is asked for once, and the page says that it is complete.
    page.goto(f"{server.url}/")
    before = served(server, "200 OK")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#status")).to_have_text("The feed is complete.")
    assert page.evaluate("source.readyState") == CLOSED
    assert served(server, "200 OK") == before + 1
    assert served(server, "204 No Content") == 0
    # The change that the page tells its reader to make, and what it says comes of it.
    folder = changed(tmp_path, "sse_basic", STOP_AT_THE_END, "", file="sse_basic.html")
    with uvicorn("recipes.sse_basic:app", cwd=folder) as broken:
        page.goto(f"{broken.url}/")
        page.get_by_role("button", name="Start").click()
        lost = expect(page.locator("#status"))
        lost.to_have_text("Lost; connecting again.")
        expect(page.locator("#events tr")).to_have_count(6)
        broken.expect('"GET /native HTTP/1.1" 204 No Content')
        expect(page.locator("#status")).to_have_text("The server said no.")
        assert page.evaluate("source.readyState") == CLOSED
        assert served(broken, "200 OK") == 1
        assert served(broken, "204 No Content") == 1


def test_stop_ends_the_feed_and_start_begins_it_anew(
    server: Server, page: Page
) -> None:
    page.goto(f"{server.url}/")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#events tr")).to_have_count(1)
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#status")).to_have_text("Stopped.")
    assert page.evaluate("source.readyState") == CLOSED
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#events tr")).to_have_count(6)


def test_hostile_text_stays_text(server: Server, page: Page) -> None:
    """Attack: An event holds HTML: the page shows it as text."""
    hostile = "<img src=x onerror=\"document.title='owned'\">"
    feed = f"event: note\ndata: {hostile}\n\nevent: end\ndata: {{}}\n\n"
    kind = "text/event-stream"
    page.route(
        f"{server.url}/native",
        lambda route: route.fulfill(body=feed, content_type=kind),
    )
    page.goto(f"{server.url}/")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#events tr")).to_have_count(2)
    expect(page.locator("#events td").nth(2)).to_have_text(hostile)
    assert page.locator("#events img").count() == 0
    assert page.title() == "sse_basic"


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ({"status": 500, "content_type": "text/event-stream"}, "500"),
        ({"status": 200, "content_type": "text/plain"}, "MIME type"),
    ],
)
def test_another_status_or_content_type_ends_it_for_good(
    answer: dict[str, Any],
    complaint: str,
    server: Server,
    page: Page,
    page_errors: list[str],
) -> None:
    page.route(f"{server.url}/native", lambda route: route.fulfill(**answer))
    page.goto(f"{server.url}/")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#status")).to_have_text("The server said no.")
    assert page.evaluate("source.readyState") == CLOSED
    assert complaint in page_errors.pop()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_its_window(
    width: int, scheme: str, server: Server, page: Page
) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.goto(f"{server.url}/")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
