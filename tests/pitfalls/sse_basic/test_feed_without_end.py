"""docs/pitfalls/events.md: EventSource reconnects for ever."""

import pytest
from fastapi.testclient import TestClient
from playwright.sync_api import Page, expect

from recipes import sse_basic
from recipes.pitfalls.sse_basic import feed_without_end
from tests.kit import sse
from tests.kit.servers import uvicorn


def test_whoever_has_seen_all_of_it_gets_all_of_it_again() -> None:
    client = TestClient(feed_without_end.app)
    first = sse.parse([client.get("/events").content])
    assert [event.id for event in first.events] == ["1", "2"]
    headers = {"Last-Event-ID": first.last_event_id}
    second = sse.parse([client.get("/events", headers=headers).content])
    assert second == first


def test_the_recipe_says_204_instead() -> None:
    headers = {"Last-Event-ID": sse_basic.END}
    response = TestClient(sse_basic.app).get("/native", headers=headers)
    assert response.status_code == 204


@pytest.mark.timeout(60)
def test_chromium_connects_again_and_again(page: Page) -> None:
    with uvicorn("recipes.pitfalls.sse_basic.feed_without_end:app") as server:
        page.goto(server.url)
        orders = [
            f'order {{"id": 7, "state": "{name}"}}' for name in ("paid", "shipped")
        ]
        turn = " ".join(["connected", *orders, "lost, connecting again"])
        expect(page.locator("#log")).to_contain_text(f"{turn} {turn} {turn}")
        assert server.output().count("GET /events HTTP/1.1") >= 3
        # Else it would report that the server is gone.
        page.goto("about:blank")


def test_its_page_loads_nothing_from_another_host() -> None:
    html = TestClient(feed_without_end.app).get("/").text
    assert "new EventSource" in html
    assert "http" not in html
