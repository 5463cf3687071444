"""docs/pitfalls/events.md: a stream from an asyncio.Queue is not cancelled."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import sse_starlette
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse

from recipes.pitfalls.sse_disconnect import queue_always_ready as module
from recipes.pitfalls.sse_disconnect.queue_always_ready import (
    FilledQueue,
    Queue,
    taken,
)
from tests.kit.asgi import FROZEN, Run, drive, note

PAUSE_AFTER = 50  # orders

others = FastAPI()


class Text(StreamingResponse):
    """What FastAPI makes of an endpoint that yields."""

    media_type = "text/plain"


@others.get("/with-a-time-limit")
async def with_a_time_limit(queue: FilledQueue) -> StreamingResponse:
    """Wait for an order for a minute at most."""

    async def in_time() -> AsyncIterator[str]:
        while True:
            async with asyncio.timeout(60):
                order = await queue.get()
            yield str(order)

    return StreamingResponse(in_time())


@others.get("/sse-starlette")
async def by_sse_starlette(queue: FilledQueue) -> sse_starlette.EventSourceResponse:
    """Take the orders for sse-starlette."""
    return sse_starlette.EventSourceResponse(taken(queue))


@others.get("/yielded", response_class=Text)
async def yielded(queue: FilledQueue) -> AsyncIterator[str]:
    """Yield the orders from the endpoint."""
    async for text in taken(queue):
        yield text


@others.get("/native", response_class=EventSourceResponse)
async def native(queue: FilledQueue) -> AsyncIterator[str]:
    """Yield the orders as FastAPI's own events."""
    async for text in taken(queue):
        yield text


@others.get("/asking")
async def asking(queue: FilledQueue, request: Request) -> StreamingResponse:
    """Ask before each order whether the client is there."""

    async def while_there() -> AsyncIterator[str]:
        while not await request.is_disconnected():
            yield str(await queue.get())

    return StreamingResponse(while_there())


def goes_on(run: Run) -> bool:
    """Tell whether the stream went on for a client that had left.

    It did if the driver had to end it. One that ends by itself sends one or two more.
    """
    assert module.streams == []  # However it has ended, it has.
    if "frozen" in run.journal:
        return True
    assert run.journal[-1] == "returned"
    assert run.lost <= 2
    return False


@pytest.mark.parametrize(
    ("path", "right"), [("/events", False), ("/right-events", True)]
)
def test_without_a_pause_of_its_own_a_stream_outlives_its_client(
    path: str, right: bool
) -> None:
    run = drive(module.app, path, disconnect_at=3)
    assert run.chunks == [b"data: 1\n\n", b"data: 2\n\n", b"data: 3\n\n"]
    assert goes_on(run) == (not right)


def test_other_requests_are_answered_meanwhile() -> None:
    run = drive(module.app, "/events", disconnect_at=3, also="/streams", also_at=3)
    assert run.also
    assert run.also.body == b'["/events"]'
    assert run.journal.index("/streams end") < run.journal.index("frozen")


@pytest.mark.parametrize(
    ("path", "ends"),
    [
        ("/with-a-time-limit", False),
        ("/sse-starlette", False),
        ("/yielded", True),
        ("/native", True),
        ("/asking", True),
    ],
)
def test_what_else_ends_such_a_stream_and_what_does_not(path: str, ends: bool) -> None:
    assert goes_on(drive(others, path, disconnect_at=3)) == (not ends)


@pytest.mark.parametrize(
    ("path", "right"), [("/events", False), ("/right-events", True)]
)
def test_a_feed_that_pauses_for_one_turn_lets_its_stream_be_cancelled(
    path: str, right: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fill(queue: Queue) -> None:
        for order in range(1, 2 * FROZEN):
            await queue.put(order)
            await asyncio.sleep(0)
            if order == PAUSE_AFTER:
                note("pause")
                await asyncio.sleep(0)

    monkeypatch.setattr(module, "fill", fill)
    run = drive(module.app, path, disconnect_at=3)
    assert run.journal[-1] == "returned"
    assert ("pause" in run.journal) == (not right)
    assert len(run.chunks) + run.lost <= PAUSE_AFTER + 1
