"""docs/pitfalls/around.md: a semaphore in the endpoint limits no streams."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
from fastapi import Depends, FastAPI
from fastapi.responses import StreamingResponse
from limits.aio.storage import MemoryStorage

from recipes import stream_limits as recipe
from recipes.pitfalls.stream_limits import released_before_the_stream as wrong
from tests.kit.asgi import drive, note


def test_a_second_stream_opens_while_the_first_is_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quick = SimpleNamespace(sleep=lambda _: asyncio.sleep(0))
    monkeypatch.setattr(wrong, "asyncio", quick)
    run = drive(wrong.app, "/events?tab=1", also="/events?tab=2")
    assert run.also is not None
    assert run.also.status == 200
    assert b"streams that are open: 2" in run.also.body
    assert wrong.open_streams == []


def test_a_dependency_of_the_functions_scope_ends_before_the_stream() -> None:
    app = FastAPI()

    async def place() -> AsyncIterator[None]:
        yield
        note("free")

    @app.get("/", dependencies=[Depends(place, scope="function")])
    async def stream() -> StreamingResponse:
        return StreamingResponse(iter(["one", "two"]))

    assert "free" in drive(app, "/").before("chunk 1")


def test_the_recipe_refuses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "TICK", 0)
    monkeypatch.setattr(recipe, "EACH", 1)
    monkeypatch.setenv("SESSION_KEY", "of the test")
    desk = recipe.Desk("of the test", MemoryStorage())
    one, two = desk.sign_in("ada"), desk.sign_in("ada")
    session = asyncio.run(desk.check(desk.sessions, two, 30))
    path = f"/events?ticket={desk.make_ticket(session)}"
    headers = {"Authorization": f"Bearer {one}"}
    run = drive(recipe.app, "/events", headers=headers, also=path, disconnect_at=9)
    assert run.also is not None
    assert (run.status, run.also.status) == (200, 429)
