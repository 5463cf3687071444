"""docs/pitfalls/events.md: an SSE event without data never arrives."""

import pytest
from fastapi.testclient import TestClient
from playwright.sync_api import Page, expect

from recipes.pitfalls.sse_basic.end_without_data import app
from tests.kit import sse
from tests.kit.servers import uvicorn

ROUTES = [("/events", False), ("/complete-events", True)]


@pytest.mark.parametrize(("path", "right"), ROUTES)
def test_by_the_standard_it_is_no_event(path: str, right: bool) -> None:
    parsed = sse.parse([TestClient(app).get(path).content])
    assert (parsed.events[-1].event == "end") == right


@pytest.mark.parametrize(("path", "right"), ROUTES)
def test_the_python_client_delivers_it_all_the_same(path: str, right: bool) -> None:
    with TestClient(app).sse(path) as events:
        assert [event.event for event in events] == ["order", "end"]
    assert right or path == "/events"


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("path", "right"), ROUTES)
def test_chromium_does_not_deliver_it(path: str, right: bool, page: Page) -> None:
    with uvicorn("recipes.pitfalls.sse_basic.end_without_data:app") as server:
        page.goto(f"{server.url}/?{path[1:]}")
        # The closed connection is noticed after every event of it.
        last = "end {}: closed" if right else "lost, connecting again"
        order = 'order {"id": 7, "state": "paid"}'
        expect(page.locator("#log")).to_have_text(f"{order} {last}")


@pytest.mark.timeout(60)
def test_without_a_path_the_page_shows_the_wrong_one(page: Page) -> None:
    with uvicorn("recipes.pitfalls.sse_basic.end_without_data:app") as server:
        page.goto(server.url)
        expect(page.locator("#log")).to_contain_text("lost, connecting again")


def test_its_page_loads_nothing_from_another_host() -> None:
    html = TestClient(app).get("/").text
    assert "new EventSource" in html
    assert "http" not in html
