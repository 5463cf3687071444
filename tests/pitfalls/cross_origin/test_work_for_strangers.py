"""docs/pitfalls/around.md: CORS blocks the page, but the server works."""

from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from recipes import cross_origin
from recipes.cross_origin import Order
from recipes.pitfalls.cross_origin import work_for_strangers as wrong
from tests.kit.asgi import drive, note

HEADERS = {"Origin": "https://evil.example"}


@pytest.mark.parametrize(
    ("app", "right"), [(wrong.app, False), (cross_origin.app, True)]
)
def test_the_feed_is_made_although_the_page_cannot_read_it(
    app: FastAPI, right: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def states(*_: object) -> AsyncIterator[Order]:
        note("work")
        yield Order(customer="guest", state="placed")

    monkeypatch.setattr(cross_origin, "order_states", states)
    monkeypatch.setattr(wrong, "order_states", states)
    run = drive(app, "/events", headers=HEADERS)
    assert "access-control-allow-origin" not in run.headers
    assert ("work" in run.journal) != right
    assert run.status == (403 if right else 200)


def test_the_program_counts_what_it_has_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_origin, "PAUSE", 0)
    monkeypatch.setattr(wrong, "told", [])
    drive(wrong.app, "/events", headers=HEADERS)
    assert TestClient(wrong.app).get("/told").json() == {"told": 5}
