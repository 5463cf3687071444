"""docs/pitfalls/events.md: EventSource never receives my "done" event."""

import pytest
from fastapi.testclient import TestClient
from playwright.sync_api import Page

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
        page.goto(f"{server.url}/openapi.json")
        seen = page.evaluate(
            """path => new Promise(done => {
                const source = new EventSource(path), seen = [];
                source.addEventListener("order", () => seen.push("order"));
                source.addEventListener("end", () => seen.push("end"));
                // The closed connection comes after every event of it.
                source.onerror = () => { source.close(); done(seen); };
            })""",
            path,
        )
    assert seen == (["order", "end"] if right else ["order"])
