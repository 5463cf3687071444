"""One order told to many listeners, by each layer.

Every version has `GET /events` and `POST /orders/7/paid`, as the recipe has, and most
have a queue for each listener. One listens from before its answer begins.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

import sse_starlette
from fastapi import Depends, FastAPI
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.types import Receive, Scope, Send

from recipes import sse_broadcast
from recipes.sse_broadcast import LATEST, Feed, Order, State, frame

Waiting = asyncio.Queue[Order]

sse_broadcast.PAUSE = 24 * 3600  # seconds: only the bench tells something
ours = sse_broadcast.app

listeners: set[Waiting] = set()


async def subscribe() -> AsyncIterator[Waiting]:
    """Add a queue of orders for one client."""
    waiting = Waiting(LATEST)
    listeners.add(waiting)
    try:
        yield waiting
    finally:
        listeners.remove(waiting)


Own = Annotated[Waiting, Depends(subscribe)]
layers = FastAPI()


@layers.post("/orders/{number}/{state}", status_code=202)
async def tell(number: int, state: State) -> Order:
    """Give each listener the order, which its layer writes."""
    order = Order(id=number, state=state)
    for waiting in listeners:
        waiting.put_nowait(order)
    return order


@layers.get("/native", response_class=EventSourceResponse)
async def native(waiting: Own) -> AsyncIterator[ServerSentEvent]:
    """Let FastAPI write the event for each listener."""
    while True:
        yield ServerSentEvent(data=await waiting.get(), event="order")


@layers.get("/sse-starlette")
async def by_sse_starlette(waiting: Own) -> sse_starlette.EventSourceResponse:
    """Let sse-starlette write the event for each listener."""

    async def events() -> AsyncIterator[sse_starlette.ServerSentEvent]:
        while True:
            data = (await waiting.get()).model_dump_json()
            yield sse_starlette.ServerSentEvent(data, event="order")

    return sse_starlette.EventSourceResponse(events())


# A bounded queue for each listener, in a plain response.
queues: set[asyncio.Queue[bytes]] = set()
queued = FastAPI()


@queued.post("/orders/{number}/{state}", status_code=202)
async def put(number: int, state: State) -> Order:
    """Write the event once, and put it into each queue."""
    order = Order(id=number, state=state)
    event = frame("order", order.model_dump_json())
    for queue in queues:
        queue.put_nowait(event)
    return order


async def own_queue() -> AsyncIterator[asyncio.Queue[bytes]]:
    """Add a queue for one client."""
    queue: asyncio.Queue[bytes] = asyncio.Queue(LATEST)
    queues.add(queue)
    try:
        yield queue
    finally:
        queues.remove(queue)


@queued.get("/events")
async def by_queue(
    queue: Annotated[asyncio.Queue[bytes], Depends(own_queue)],
) -> StreamingResponse:
    """Send what the queue holds."""

    async def events() -> AsyncIterator[bytes]:
        while True:
            yield await queue.get()

    return StreamingResponse(events(), media_type="text/event-stream")


# Nothing but uvicorn ------------------------------------------------------------------

clients: set[asyncio.Queue[bytes]] = set()
feed = Feed()
STREAM = [(b"content-type", b"text/event-stream; charset=utf-8")]


async def raw(scope: Scope, receive: Receive, send: Send) -> None:
    """Write each event once, and hand it to the server; a queue for each listener."""
    if scope["type"] == "http" and scope["method"] == "POST":
        event = await told(scope, send)
        for waiting in clients:
            waiting.put_nowait(event)
    elif scope["type"] == "http":
        waiting = asyncio.Queue(LATEST)
        clients.add(waiting)
        try:
            await stream(taken(waiting), receive, send)
        finally:
            clients.remove(waiting)


async def raw_feed(scope: Scope, receive: Receive, send: Send) -> None:
    """Do the same with the recipe's feed."""
    if scope["type"] == "http" and scope["method"] == "POST":
        feed.add(await told(scope, send))
    elif scope["type"] == "http":
        await stream(feed.events(feed.end), receive, send)


async def told(scope: Scope, send: Send) -> bytes:
    """Read the order of a request, and write its event."""
    _, _, number, state = scope["path"].split("/")
    order = Order(id=int(number), state=state)
    length = [(b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 202, "headers": length})
    await send({"type": "http.response.body", "body": b""})
    return frame("order", order.model_dump_json())


async def taken(waiting: asyncio.Queue[bytes]) -> AsyncIterator[bytes]:
    """Take what a queue holds, for ever."""
    while True:
        yield await waiting.get()


async def stream(events: AsyncIterator[bytes], receive: Receive, send: Send) -> None:
    """Send events until the client leaves."""

    async def send_all() -> None:
        await send({"type": "http.response.start", "status": 200, "headers": STREAM})
        async for event in events:
            body = {"type": "http.response.body", "body": event, "more_body": True}
            await send(body)

    sending = asyncio.create_task(send_all())
    try:
        while (await receive())["type"] != "http.disconnect":
            pass
    finally:
        sending.cancel()
