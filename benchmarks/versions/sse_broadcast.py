"""One order told to many listeners, by each layer.

Every version has `GET /events` and `POST /orders`, as the recipe has, and a queue of
its own for each listener. A listener is one of them before its answer begins.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated

import sse_starlette
from fastapi import Depends, FastAPI
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.types import Message, Receive, Scope, Send

from recipes import sse_broadcast
from recipes.sse_broadcast import LATEST, Feed, Order, frame

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


@layers.post("/orders", status_code=202)
async def tell(order: Order) -> Order:
    """Give each listener the order, which its layer writes."""
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


# A log that all listeners read, each from its own place, and one future to wake them.
events_so_far: list[bytes] = []
news: list[asyncio.Future[None]] = []
shared = FastAPI()


@shared.post("/orders", status_code=202)
async def append(order: Order) -> Order:
    """Write the event once, and wake all that wait."""
    events_so_far.append(frame("order", order.model_dump_json()))
    news.pop().set_result(None)
    return order


@shared.get("/events")
async def by_shared_log() -> StreamingResponse:
    """Send the log from now on."""
    place = len(events_so_far)

    async def events() -> AsyncIterator[bytes]:
        at = place
        while True:
            while at == len(events_so_far):
                if not news:
                    news.append(asyncio.get_running_loop().create_future())
                await asyncio.shield(news[0])
            yield events_so_far[at]
            at += 1

    return StreamingResponse(events(), media_type="text/event-stream")


# Nothing but uvicorn ------------------------------------------------------------------

clients: set[asyncio.Queue[bytes]] = set()
STREAM = [(b"content-type", b"text/event-stream; charset=utf-8")]


async def raw(scope: Scope, receive: Receive, send: Send) -> None:
    """Write each event once, and hand it to the server."""
    if scope["type"] != "http":
        return
    message = await receive()
    if scope["method"] == "POST":
        await raw_tell(message, send)
        return
    waiting: asyncio.Queue[bytes] = asyncio.Queue(LATEST)
    clients.add(waiting)
    sending = asyncio.create_task(raw_events(waiting, send))
    try:
        while message["type"] != "http.disconnect":
            message = await receive()
    finally:
        sending.cancel()
        clients.remove(waiting)


async def raw_tell(message: Message, send: Send) -> None:
    """Read the order of a request, and give it to all."""
    order = Order(**json.loads(message["body"]))
    event = frame("order", order.model_dump_json())
    for waiting in clients:
        waiting.put_nowait(event)
    length = [(b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 202, "headers": length})
    await send({"type": "http.response.body", "body": b""})


async def raw_events(waiting: asyncio.Queue[bytes], send: Send) -> None:
    """Send the events of one client."""
    await send({"type": "http.response.start", "status": 200, "headers": STREAM})
    while True:
        event = await waiting.get()
        await send({"type": "http.response.body", "body": event, "more_body": True})
