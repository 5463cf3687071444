"""docs/pitfalls/events.md: EventSource onerror fires although the connection is fine."""

import pytest
from fastapi.testclient import TestClient
from playwright.sync_api import Page

from recipes.pitfalls.sse_basic.event_named_error import app
from tests.kit import sse
from tests.kit.servers import uvicorn


@pytest.mark.parametrize(
    ("path", "name"), [("/events", "error"), ("/named-events", "failed")]
)
def test_on_the_wire_it_is_an_event_like_any_other(path: str, name: str) -> None:
    (event,) = sse.parse([TestClient(app).get(path).content]).events
    assert event.event == name


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("path", "right"), [("/events", False), ("/named-events", True)]
)
def test_onerror_is_called_while_the_connection_is_open(
    path: str, right: bool, page: Page
) -> None:
    with uvicorn("recipes.pitfalls.sse_basic.event_named_error:app") as server:
        page.goto(f"{server.url}/openapi.json")
        state = page.evaluate(
            """path => new Promise(done => {
                const source = new EventSource(path);
                source.addEventListener("failed", () => done("failed"));
                source.onerror = () => done(source.readyState);
            })""",
            path,
        )
    connection_is_open = 1
    assert state == ("failed" if right else connection_is_open)
