"""docs/pitfalls/events.md: a proxy cuts a stream although its code pings."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from fastapi import FastAPI

from recipes import sse_keepalive
from recipes.pitfalls.sse_keepalive import ping_waits_for_data as wrong
from recipes.sse_keepalive import Order
from tests.kit import sse
from tests.kit.asgi import drive, note

VERSIONS = [
    (wrong.app, "/events", False),
    (sse_keepalive.app, "/by-hand?ping=0.1", True),
]


@pytest.mark.parametrize(("app", "path", "right"), VERSIONS)
def test_the_ping_comes_with_the_order_that_ends_the_silence(
    app: FastAPI, path: str, right: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def states(_: float) -> AsyncGenerator[Order, None]:
        yield Order(id=7, state="placed")
        await asyncio.sleep(1.0)
        note("the silence is over")
        yield Order(id=7, state="delivered")

    monkeypatch.setattr(sse_keepalive, "order_states", states)
    monkeypatch.setattr(wrong, "PING", 0.1)
    run = drive(app, path)
    names = [event.event for event in sse.parse(run.chunks).events]
    assert (names[0], names[1], names[-1]) == ("order", "ping", "order")
    assert ("chunk 2" in run.before("the silence is over")) == right
