"""docs/recipes/sse_disconnect.md: how a browser leaves, and how it comes back."""

import re
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Page

from tests.kit import servers
from tests.kit.servers import Server, uvicorn

pytestmark = pytest.mark.timeout(servers.START + 30)

WATCHED = "tests.servers.watched_sse_disconnect:app"
OPEN = """path => new Promise(resolve => {
    window.source = new EventSource(path);
    source.onmessage = event => resolve(event.data);
    source.onerror = () => resolve(source.readyState);
})"""
FETCH = """async path => {
    window.leaving = new AbortController();
    const response = await fetch(path, { signal: leaving.signal });
    const reader = response.body.getReader();
    await reader.read();
}"""
CLOSED = 2  # EventSource.CLOSED
FIRST = '{"id": 1, "state": "placed"}'

LEAVE: dict[str, Callable[[Page], object]] = {
    "close()": lambda page: page.evaluate("source.close()"),
    "another page": lambda page: page.goto("about:blank"),
    "a closed tab": lambda page: page.close(),
}


def places(server: Server) -> int:
    """Count the places that are taken."""
    found: int = httpx2.get(f"{server.url}/left").json()["places"]
    return found


def wait_for(book: Path, count: int) -> list[str]:
    """Wait for so many lines in the book."""

    def written() -> list[str]:
        return book.read_text("utf-8").splitlines() if book.exists() else []

    servers.until(lambda: len(written()) >= count, f"{count} lines")
    return written()


@pytest.mark.parametrize("way", LEAVE)
@pytest.mark.parametrize("path", ["/native", "/by-hand", "/sse-starlette"])
def test_each_way_of_leaving_is_noticed(
    way: str, path: str, page: Page, tmp_path: Path
) -> None:
    book = tmp_path / "book.txt"
    with uvicorn(WATCHED, env={"BOOK": str(book)}) as server:
        page.goto(f"{server.url}/openapi.json")
        assert page.evaluate(OPEN, path) == FIRST
        assert places(server) == 1
        LEAVE[way](page)
        (line,) = wait_for(book, 1)
        assert line.endswith("cancelled at an await")
        assert places(server) == 0


def test_to_stop_reading_is_not_to_leave(page: Page, tmp_path: Path) -> None:
    book = tmp_path / "book.txt"
    with uvicorn(WATCHED, env={"BOOK": str(book), "PAUSE": "0.01"}) as server:
        page.goto(f"{server.url}/openapi.json")
        page.evaluate(FETCH, "/native")
        for _ in range(20):
            assert page.evaluate("fetch('/left').then(r => r.status)") == 200
        assert places(server) == 1
        assert not book.exists()
        page.evaluate("leaving.abort()")
        wait_for(book, 1)


def test_when_the_lifetime_is_over_a_browser_comes_back_by_itself(
    page: Page, tmp_path: Path
) -> None:
    book = tmp_path / "book.txt"
    env = {"BOOK": str(book), "PAUSE": "0.05", "LIFETIME": "0.1"}
    with uvicorn(WATCHED, env=env) as server:
        page.goto(f"{server.url}/openapi.json")
        assert page.evaluate(OPEN, "/native") == FIRST
        lines = wait_for(book, 2)  # It waits three seconds before it connects again.
        assert all(re.search("no sign that it left", line) for line in lines)


def test_a_503_stops_an_event_source_for_good(
    page: Page, page_errors: list[str], tmp_path: Path
) -> None:
    env = {"BOOK": str(tmp_path / "book.txt"), "PLACES": "0"}
    with uvicorn(WATCHED, env=env) as server:
        page.goto(f"{server.url}/openapi.json")
        assert page.evaluate(OPEN, "/native") == CLOSED
        assert "503" in page_errors.pop()
