"""docs/pitfalls/events.md: EventSource onerror fires on an open connection."""

import pytest
from fastapi.testclient import TestClient
from playwright.sync_api import Page, expect

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
    ("query", "first"),
    [
        ("", "onerror: the connection is open"),
        ("?named-events", 'failed {"id": 7, "state": "refused"}'),
    ],
)
def test_onerror_is_called_while_the_connection_is_open(
    query: str, first: str, page: Page
) -> None:
    with uvicorn("recipes.pitfalls.sse_basic.event_named_error:app") as server:
        page.goto(f"{server.url}/{query}")
        # Then the feed ends, and the second line is the truth.
        second = "onerror: the connection is connecting again"
        expect(page.locator("#log")).to_have_text(f"{first} {second}")


def test_its_page_loads_nothing_from_another_host() -> None:
    html = TestClient(app).get("/").text
    assert "new EventSource" in html
    assert "http" not in html
