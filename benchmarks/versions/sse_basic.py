"""The recipe's layers over a producer that never pauses, a route each.

Every version starts from the same `Order` and makes its JSON with pydantic.
"""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import parse_qs

import sse_starlette
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.types import Receive, Scope, Send

from recipes.sse_basic import Event, Order, frame

WAITING = 100  # events that may wait for the client

app = FastAPI()


async def order_events(events: int) -> AsyncIterator[Event]:
    """Make the events, as fast as they are taken."""
    for number in range(1, events + 1):
        data = Order(id=number, state="paid").model_dump_json()
        yield Event(data, "order", str(number))


@app.get("/native", response_class=EventSourceResponse)
async def native(events: int) -> AsyncIterator[ServerSentEvent]:
    """Let FastAPI make the JSON."""
    for number in range(1, events + 1):
        order = Order(id=number, state="paid")
        yield ServerSentEvent(data=order, event="order", id=str(number))


@app.get("/native-raw", response_class=EventSourceResponse)
async def native_raw(events: int) -> AsyncIterator[ServerSentEvent]:
    """Give FastAPI the text."""
    async for event in order_events(events):
        fields = event._asdict()
        yield ServerSentEvent(raw_data=fields.pop("data"), **fields)


@app.get("/sse-starlette")
async def by_sse_starlette(events: int) -> sse_starlette.EventSourceResponse:
    """Hand the events over."""
    wrap = sse_starlette.ServerSentEvent
    wrapped = (wrap(**event._asdict()) async for event in order_events(events))
    return sse_starlette.EventSourceResponse(wrapped)


@app.get("/f-string")
async def f_string(events: int) -> StreamingResponse:
    """Do as most tutorials: no check, no second line of data."""

    async def generate() -> AsyncIterator[str]:
        async for event in order_events(events):
            yield f"event: {event.event}\nid: {event.id}\ndata: {event.data}\n\n"

    return StreamingResponse(generate(), media_type="text/event-stream")


@app.get("/by-hand")
async def by_hand(events: int) -> StreamingResponse:
    """Frame the events with the recipe's own function."""
    framed = (frame(event) async for event in order_events(events))
    return StreamingResponse(framed, media_type="text/event-stream")


@app.get("/joined")
async def joined(events: int) -> StreamingResponse:
    """Send whatever waits as one chunk: nothing is held back for it."""

    async def generate() -> AsyncIterator[str]:
        queue: asyncio.Queue[Event | None] = asyncio.Queue(WAITING)

        async def produce() -> None:
            async for event in order_events(events):
                await queue.put(event)
            await queue.put(None)

        producer = asyncio.create_task(produce())
        try:
            ended = False
            while not ended:
                waiting = [await queue.get()]
                while not queue.empty():
                    waiting.append(queue.get_nowait())
                ended = waiting[-1] is None
                yield "".join(frame(event) for event in waiting if event)
        finally:
            producer.cancel()

    return StreamingResponse(generate(), media_type="text/event-stream")


async def raw(scope: Scope, receive: Receive, send: Send) -> None:
    """Send the framed events, with nothing between them and the server."""
    if scope["type"] != "http":
        return
    await receive()
    events = int(parse_qs(scope["query_string"].decode())["events"][0])
    headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    async for event in order_events(events):
        chunk = frame(event).encode()
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
