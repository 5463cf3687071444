# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "anyio>=4.16",
#   "fastapi>=0.165",
#   "sse-starlette>=3.7",
#   "uvicorn>=0.54",
# ]
#
# [tool.cookbook]
# application = true
# ///
"""End every stream with a farewell when the server is told to stop.

Run it:   uvicorn recipes.graceful_shutdown:app
Try it:   curl -N --max-time 10 http://127.0.0.1:8000/native
          curl -N --max-time 10 http://127.0.0.1:8000/framed
          curl -N --max-time 10 http://127.0.0.1:8000/sse-starlette
"""

import asyncio
import secrets
import signal
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from types import FrameType
from typing import Annotated, Any, TypeVar

import anyio
import sse_starlette
import uvicorn
from fastapi import Depends, FastAPI, Header, Request
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent, format_sse_event
from pydantic import BaseModel

Item = TypeVar("Item")
Handler = Callable[[int, FrameType | None], object]
PAUSE = 0.5  # seconds between two orders
SOONEST = 1000  # milliseconds until the first clients come back
LATEST = 3000  # milliseconds until the last clients come back
BACKSTOP = 3  # seconds until the server cuts streams that have not ended
DIGITS = 15  # of an id; JavaScript still counts exactly with so many


# --8<-- [start:signals]
@contextmanager
def hearing_signals(tell: Callable[[], None]) -> Iterator[None]:
    """Call `tell` at SIGTERM or Ctrl+C, and then the server's own handler.

    A server that handles no signals in this process is left alone.
    """
    loop = asyncio.get_running_loop()
    servers: dict[int, Handler] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        # A signal may come at any moment; the loop calls `tell` when it is ready.
        loop.call_soon_threadsafe(tell)
        servers[number](number, frame)

    # Python lets only the main thread handle signals.
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            handler = signal.getsignal(number)
            if callable(handler):
                servers[number] = handler
                signal.signal(number, handle)
    try:
        yield
    finally:
        for caught, server in servers.items():
            signal.signal(caught, server)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, asyncio.Event]]:
    """Own the event that ends all streams of this process."""
    stopping = asyncio.Event()
    with hearing_signals(stopping.set):
        yield {"stopping": stopping}
    # Close here what the streams use: none of them is open any more.


app = FastAPI(title="graceful_shutdown", lifespan=lifespan)


# --8<-- [end:signals]
# --8<-- [start:orders]
class Order(BaseModel):
    """What the shop tells about one order."""

    id: int
    item: str


async def orders_after(number: int) -> AsyncGenerator[Order, None]:
    """Tell of one order after the other, without end.

    An order follows from its number, so that every process knows all of them.
    """
    while True:
        number += 1
        yield Order(id=number, item=f"tea no. {number}")
        await asyncio.sleep(PAUSE)


# --8<-- [end:orders]
# --8<-- [start:until]
async def until(
    stopping: asyncio.Event, items: AsyncGenerator[Item, None]
) -> AsyncGenerator[Item, None]:
    """Give the items until `stopping` is set, also if that is during a wait for one.

    Close it (`aclose`) before you close `items`: it ends the wait for the next item.
    """
    stopped = asyncio.ensure_future(stopping.wait())
    waits: list[asyncio.Future[Any]] = [stopped]
    try:
        while not stopping.is_set():
            upcoming = asyncio.ensure_future(anext(items))
            waits = [stopped, upcoming]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if not upcoming.done():
                return
            try:
                item = upcoming.result()
            except StopAsyncIteration:
                return
            yield item
    finally:
        for wait in waits:
            wait.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait(waits)


# --8<-- [end:until]
# --8<-- [start:streams]
Orders = AsyncGenerator[Order, None]


def number_of(text: str) -> int:
    """Read the number of an order; whatever else the client sends is 0."""
    if text.isascii() and text.isdecimal() and len(text) <= DIGITS:
        return int(text)
    return 0


async def own_orders(
    request: Request,
    after: str = "",
    last_event_id: Annotated[str | None, Header()] = None,
) -> AsyncIterator[Orders]:
    """Own the orders of one request: close them as soon as the response has ended."""
    # A browser that reconnects by itself sends both, and the header is the newer one.
    number = number_of(last_event_id or after)
    try:
        async with (
            aclosing(orders_after(number)) as orders,
            aclosing(until(request.state.stopping, orders)) as feed,
        ):
            yield feed
    except* anyio.BrokenResourceError:
        pass  # FastAPI raises it if an event was waiting when the client left.


OwnOrders = Annotated[Orders, Depends(own_orders)]


def soon() -> int:
    """Choose when one client comes back, in milliseconds: not all at once."""
    return SOONEST + secrets.randbelow(LATEST - SOONEST + 1)


@app.get("/native", response_class=EventSourceResponse)
async def native(orders: OwnOrders) -> AsyncIterator[ServerSentEvent]:
    """Send the orders, and in the end a farewell, with FastAPI's own events."""
    async for order in orders:
        yield ServerSentEvent(data=order, event="order", id=str(order.id))
    yield ServerSentEvent(data={}, event="farewell", retry=soon())


# --8<-- [end:streams]
# --8<-- [start:others]
async def as_bytes(orders: Orders) -> AsyncIterator[bytes]:
    """Write each order and the farewell as the bytes of an event."""
    async for order in orders:
        data = order.model_dump_json()
        yield format_sse_event(data_str=data, event="order", id=str(order.id))
    yield format_sse_event(data_str="{}", event="farewell", retry=soon())


@app.get("/framed")
async def framed(orders: OwnOrders) -> StreamingResponse:
    """Send the same with a plain StreamingResponse."""
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    body = as_bytes(orders)
    return StreamingResponse(body, headers=headers, media_type="text/event-stream")


async def as_events(orders: Orders) -> AsyncIterator[sse_starlette.ServerSentEvent]:
    """Turn each order and the farewell into an event of sse-starlette's."""
    async for order in orders:
        data = order.model_dump_json()
        yield sse_starlette.ServerSentEvent(data, event="order", id=str(order.id))
    yield sse_starlette.ServerSentEvent("{}", event="farewell", retry=soon())


@app.get("/sse-starlette")
async def by_sse_starlette(orders: OwnOrders) -> sse_starlette.EventSourceResponse:
    """Send the same with sse-starlette, which must leave the end to us."""
    return sse_starlette.EventSourceResponse(
        as_events(orders), shutdown_grace_period=BACKSTOP
    )


# --8<-- [end:others]
if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8000, timeout_graceful_shutdown=BACKSTOP)
