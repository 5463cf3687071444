"""docs/pitfalls/events.md: StopAsyncIteration after asyncio.wait_for and anext."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

import pytest
from fastapi import FastAPI

from recipes import sse_keepalive
from recipes.pitfalls.sse_keepalive import timeout_ends_the_feed as wrong
from recipes.sse_keepalive import Order
from tests.kit import sse
from tests.kit.asgi import drive, note

VERSIONS = [
    (wrong.app, "/events", False),
    (sse_keepalive.app, "/by-hand?ping=0.1", True),
]


@pytest.mark.parametrize(("app", "path", "right"), VERSIONS)
def test_the_first_ping_ends_the_feed(
    app: FastAPI, path: str, right: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def states(_: float) -> AsyncGenerator[Order, None]:
        try:
            yield Order(id=7, state="placed")
            await asyncio.sleep(1.0)
            yield Order(id=7, state="delivered")
        except asyncio.CancelledError:
            note("cancelled")
            raise

    monkeypatch.setattr(sse_keepalive, "order_states", states)
    monkeypatch.setattr(wrong, "PING", 0.1)
    run = drive(app, path)
    names = [event.event for event in sse.parse(run.chunks).events]
    assert names[:2] == ["order", "ping"]
    assert (names.count("order") == 2) == right
    assert ("cancelled" in run.journal) != right


def test_anext_raises_stop_async_iteration_after_the_timeout() -> None:
    async def feed() -> AsyncIterator[int]:
        yield 1
        await asyncio.sleep(3600)
        yield 2

    async def consume() -> None:
        items = feed()
        assert await anext(items) == 1
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(items), 0.01)
        with pytest.raises(StopAsyncIteration):
            await anext(items)

    asyncio.run(consume())
