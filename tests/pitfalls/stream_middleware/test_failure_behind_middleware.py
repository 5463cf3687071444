"""docs/pitfalls/around.md: My stream failed, and the client thinks it is complete."""

from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI, Request, Response
from starlette.middleware.base import RequestResponseEndpoint
from starlette.types import ASGIApp

from recipes import stream_middleware as recipe
from recipes.pitfalls.stream_middleware import failure_behind_middleware as wrong
from tests.kit.asgi import drive, note


@pytest.mark.parametrize(
    ("app", "path", "complete"),
    [(wrong.app, "/orders", True), (recipe.app, "/orders?fail_at=4", False)],
    ids=["wrong", "right"],
)
def test_behind_it_a_failed_stream_has_a_last_message(
    app: ASGIApp, path: str, complete: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "PAUSE", 0)
    run = drive(app, path)
    assert len(run.chunks) == 3
    # The error reaches the server's log either way.
    assert isinstance(run.error, ValueError)
    assert ("end" in run.journal) == complete
    assert "x-request-id" in run.headers


def test_without_it_the_same_stream_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wrong.app, "user_middleware", [])
    monkeypatch.setattr(wrong.app, "middleware_stack", None)
    run = drive(wrong.app, "/orders")
    assert len(run.chunks) == 3
    assert "end" not in run.journal


def test_a_timer_around_call_next_stops_while_the_orders_are_made() -> None:
    app = FastAPI()

    @app.get("/orders")
    async def orders() -> AsyncIterator[int]:
        for number in range(1, 6):
            note(f"order {number}")
            yield number

    @app.middleware("http")
    async def timer(request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        note("stopped")
        return response

    run = drive(app, "/orders")
    assert "order 3" not in run.before("stopped")
    assert "order 5" in run.journal
