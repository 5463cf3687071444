"""docs/pitfalls/events.md: EventSource stops for ever, and the log shows 422."""

import pytest
from fastapi.testclient import TestClient
from playwright.sync_api import Page, expect

from recipes import sse_resumable
from recipes.pitfalls.sse_resumable import id_as_number
from tests.kit.asgi import drive
from tests.kit.servers import uvicorn

IDS = ["7f3a-2", "abc", "1.5"]


@pytest.mark.parametrize("last_id", IDS)
def test_an_id_that_is_no_number_is_refused(last_id: str) -> None:
    client = TestClient(id_as_number.app)
    assert client.get("/events").status_code == 200
    answer = client.get("/events", headers={"Last-Event-ID": last_id})
    assert answer.status_code == 422


@pytest.mark.parametrize("last_id", IDS)
def test_the_recipe_answers_it_with_a_stream(last_id: str) -> None:
    headers = {"last-event-id": last_id}
    run = drive(sse_resumable.app, "/events", headers=headers, disconnect_at=2)
    assert run.status == 200
    assert run.chunks[1] == b"event: reset\ndata: {}\nid: \n\n"


@pytest.mark.timeout(60)
def test_chromium_gives_up_at_its_first_reconnect(
    page: Page, page_errors: list[str]
) -> None:
    with uvicorn("recipes.pitfalls.sse_resumable.id_as_number:app") as server:
        page.goto(server.url)
        lines = ['7f3a-1 {"order": 1}', "lost, connecting again", "closed for good"]
        expect(page.locator("#log")).to_have_text("\n".join(lines) + "\n")
        assert server.output().count("GET /events HTTP/1.1") == 2
    assert "422" in page_errors.pop()


def test_its_page_loads_nothing_from_another_host() -> None:
    html = TestClient(id_as_number.app).get("/").text
    assert "new EventSource" in html
    assert "http" not in html
