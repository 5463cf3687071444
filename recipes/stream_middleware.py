# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "anyio>=4.16",
#   "fastapi>=0.165",
#   "opentelemetry-api>=1.45",
#   "uvicorn>=0.54",
# ]
#
# [tool.cookbook]
# application = true
# ///
"""Measure, name, compress and trace a stream, without touching it.

Run it:   uvicorn recipes.stream_middleware:app
Try it:   curl -N http://127.0.0.1:8000/orders
          curl -N http://127.0.0.1:8000/events
"""

import asyncio
import logging
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Annotated
from uuid import uuid4

import anyio
import uvicorn
from fastapi import Depends, FastAPI, Query
from fastapi.sse import EventSourceResponse
from opentelemetry import trace
from pydantic import BaseModel
from starlette.datastructures import MutableHeaders
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PAGE = 2  # orders that one query reads
PAUSE = 0.5  # seconds that a query takes
LAST = 6  # id of the newest order
PLAIN_ID = re.compile(rb"[A-Za-z0-9._-]{8,64}")
BODY = {"http.response.body", "http.response.pathsend"}  # messages that may be the last

log = logging.getLogger("uvicorn.error")  # what uvicorn shows on the console
tracer = trace.get_tracer("recipes.stream_middleware")


# --8<-- [start:request_id]
request_id: ContextVar[str] = ContextVar("request_id", default="none")


def choose_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Take the client's X-Request-ID if it is one plain word; else make one."""
    sent = [value for name, value in headers if name == b"x-request-id"]
    if len(sent) == 1 and PLAIN_ID.fullmatch(sent[0]):
        return sent[0].decode("ascii")
    return uuid4().hex


class RequestId:
    """Gives each request an id, which logs, spans and the response carry."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Set the id in this task; whatever the task starts has it too."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        chosen = choose_id(scope["headers"])
        request_id.set(chosen)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-ID"] = chosen
            await send(message)

        await self.app(scope, receive, send_with_id)


# --8<-- [end:request_id]
# --8<-- [start:measure]
@dataclass
class Stream:
    """What one response has come to so far."""

    begun: float  # seconds on the clock `time.perf_counter`
    status: int = 0  # 0: there was no response
    first_byte: float | None = None  # seconds since it began
    chunks: int = 0
    size: int = 0  # bytes
    end: str = "cut short"

    def count(self, message: Message) -> None:
        """Count a message that the server has taken."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
        body = message.get("body", b"")
        if body and self.first_byte is None:
            self.first_byte = time.perf_counter() - self.begun
        if body:
            self.chunks += 1
            self.size += len(body)
        if message["type"] in BODY and not message.get("more_body"):
            self.end = "complete"


class Measure:
    """Measures each response, passes on every message as it is, and tells the end."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Listen at `receive` and `send` for as long as the request lasts."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        stream = Stream(time.perf_counter())

        async def watch_receive() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect" and stream.end != "complete":
                stream.end = "client left"
            return message

        async def count_send(message: Message) -> None:
            await send(message)
            stream.count(message)

        with tracer.start_as_current_span("stream") as span:
            try:
                await self.app(scope, watch_receive, count_send)
            except asyncio.CancelledError:
                stream.end = "given up"
                raise
            except Exception:
                if stream.end != "client left":
                    stream.end = "failed"
                raise
            finally:
                write_down(scope, stream, span)


# --8<-- [end:measure]
# --8<-- [start:report]
def write_down(scope: Scope, stream: Stream, span: trace.Span) -> None:
    """Put what was measured into the log, and into the span of the stream."""
    # The path that was asked for is the client's text; the route's path is yours.
    route = getattr(scope.get("route"), "path", "no route")
    seconds = time.perf_counter() - stream.begun
    first = "none"
    if stream.first_byte is not None:
        first = f"{stream.first_byte:.3f} s"
        span.set_attribute("stream.first_byte", stream.first_byte)
    span.set_attribute("stream.chunks", stream.chunks)
    span.set_attribute("stream.bytes", stream.size)
    span.set_attribute("stream.end", stream.end)
    span.set_attribute("request.id", request_id.get())
    log.info(
        "%s %d: first byte %s, %d chunks, %d bytes, %.3f s, %s; request %s",
        route,
        stream.status,
        first,
        stream.chunks,
        stream.size,
        seconds,
        stream.end,
        request_id.get(),
    )


class App(FastAPI):
    """Puts both around all that Starlette adds, its answer 500 included."""

    def build_middleware_stack(self) -> ASGIApp:
        """Wrap what FastAPI has built."""
        return RequestId(Measure(super().build_middleware_stack()))


app = App(title="stream_middleware")
app.add_middleware(GZipMiddleware, compresslevel=6)


# --8<-- [end:report]
# --8<-- [start:producer]
class Order(BaseModel):
    """What the shop tells about one order."""

    id: int
    item: str = "tea"
    state: str = "placed"


async def read_page(first: int, count: int) -> list[Order]:
    """Read some orders, as a database would."""
    await asyncio.sleep(PAUSE)
    return [Order(id=number) for number in range(first, first + count)]


Orders = AsyncGenerator[Order, None]


async def all_orders(fail_at: int) -> Orders:
    """Give the orders as they are read; fail at one of them, if you like."""
    for first in range(1, LAST + 1, PAGE):
        # The span ends before the first `yield`: it belongs to this task alone.
        with tracer.start_as_current_span("read a page"):
            page = await read_page(first, PAGE)
        for order in page:
            if order.id == fail_at:
                raise ValueError(f"Order {order.id} cannot be read")
            yield order


# --8<-- [end:producer]
# --8<-- [start:streams]
FailAt = Annotated[int, Query(ge=0, le=LAST)]


async def own_orders(fail_at: FailAt = 0) -> AsyncIterator[Orders]:
    """Own the orders of one request: close them as soon as the response has ended."""
    try:
        async with aclosing(all_orders(fail_at)) as feed:
            yield feed
    except* anyio.BrokenResourceError:
        pass  # FastAPI raises it if an event was waiting when the client left.


OwnOrders = Annotated[Orders, Depends(own_orders)]


@app.get("/orders")
async def orders(feed: OwnOrders) -> AsyncIterator[Order]:
    """Send the orders as JSON Lines, compressed for who asks for it."""
    async for order in feed:
        yield order


@app.get("/events", response_class=EventSourceResponse)
async def events(feed: OwnOrders) -> AsyncIterator[Order]:
    """Send the orders as events."""
    async for order in feed:
        yield order


# --8<-- [end:streams]
if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8000)
