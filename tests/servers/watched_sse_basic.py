"""The recipe sse_basic over feeds of the tests; it tells when a request ends."""

import sys
from collections.abc import AsyncIterator

import anyio
from starlette.types import ASGIApp, Receive, Scope, Send

from recipes import sse_basic
from recipes.sse_basic import Event

BIG = 32 * 1024 * 1024  # bytes, more than the buffers of a connection hold


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the recipe."""
    seen = dict(scope.get("headers", [])).get(b"last-event-id")
    if scope["type"] == "http":
        sys.stdout.write(f"asked for {scope['path']}, seen: {seen}\n")
    try:
        await sse_basic.app(scope, receive, send)
    finally:
        if scope["type"] == "http":
            sys.stdout.write("over\n")


async def big_events() -> AsyncIterator[Event]:
    """Make an event too big for a client that does not read, and four more behind."""
    for number in range(1, 6):
        sys.stdout.write(f"event {number}\n")
        data = "x" * BIG if number == 1 else "{}"
        yield Event(data, "order", str(number))


async def endless() -> AsyncIterator[Event]:
    """Make those events, and then wait for ever."""
    async for event in big_events():
        yield event
    await anyio.sleep_forever()


async def broken() -> AsyncIterator[Event]:
    """Make one small event, and fail."""
    yield Event("{}", "order", "1")
    raise ValueError("no such order")


def flooding() -> ASGIApp:
    """Give the recipe a feed for which a client can be too slow."""
    sse_basic.order_events = endless
    return app


def unguarded() -> ASGIApp:
    """Take away what drops the error of a slow client that leaves."""
    sse_basic.app.dependency_overrides[sse_basic.slow_client_may_leave] = lambda: None
    return flooding()


def failing() -> ASGIApp:
    """Give the recipe a feed that fails in mid-stream."""
    sse_basic.order_events = broken
    return app


def short() -> ASGIApp:
    """Give the recipe a feed that stops before its end, the first time."""
    whole = sse_basic.order_events
    feeds = iter([first_two(), whole()])
    sse_basic.order_events = lambda: next(feeds)
    return app


async def first_two() -> AsyncIterator[Event]:
    """Make the first two events of an order, without a pause."""
    yield Event("{}", "order", "1", retry=100)
    yield Event("{}", "order", "2")
