# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "anyio>=4.16",
#   "fastapi>=0.165",
#   "sse-starlette>=3.7",
#   "uvicorn>=0.54",
# ]
# ///
"""Keep a silent stream alive with pings.

Run it:   uvicorn recipes.sse_keepalive:app
Try it:   curl -N 'http://127.0.0.1:8000/by-hand?quiet=2.5&ping=1'
          curl -N 'http://127.0.0.1:8000/ndjson?quiet=2.5&ping=1'
          curl -N 'http://127.0.0.1:8000/sse-starlette?quiet=2.5&ping=1'
          curl -N 'http://127.0.0.1:8000/native?quiet=2.5'
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, TypeVar

import anyio
import sse_starlette
import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException, Query, Response
from fastapi.responses import FileResponse, StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel

Item = TypeVar("Item")
Seconds = Annotated[float, Query(ge=0.1, le=3600)]
LastEventId = Annotated[str | None, Header()]
PING = 15  # seconds of silence before a ping, unless the request says how many
LAST = "delivered"  # the last state of an order, and the id of its event


async def not_after_the_end(last_event_id: LastEventId = None) -> None:
    """Answer 204 to a browser that has seen the end; then it stops coming back."""
    if last_event_id == LAST:
        raise HTTPException(204)


async def slow_client_may_leave() -> AsyncIterator[None]:
    """Drop the error that FastAPI raises when a slow client leaves, and no other."""
    try:
        yield
    except* anyio.BrokenResourceError:
        pass  # An event was waiting for a client that is gone.


GUARDS = [Depends(not_after_the_end), Depends(slow_client_may_leave)]
app = FastAPI(title="sse_keepalive", dependencies=GUARDS)


# --8<-- [start:producer]
class Order(BaseModel):
    """What the shop tells about one order."""

    id: int
    state: str


async def order_states(quiet: float) -> AsyncGenerator[Order, None]:
    """Tell where order 7 is. Between the two states nothing happens for `quiet` s."""
    yield Order(id=7, state="placed")
    await asyncio.sleep(quiet)
    yield Order(id=7, state=LAST)


# --8<-- [end:producer]
# --8<-- [start:pings]
async def with_pings(
    items: AsyncIterator[Item], seconds: float
) -> AsyncGenerator[Item | None, None]:
    """Give each item when it comes, and None after each `seconds` of silence.

    Close it (`aclose`) before you close `items`: it ends the wait for the next item.
    """
    upcoming = asyncio.ensure_future(anext(items))
    try:
        while True:
            # Unlike `wait_for`, `wait` cancels nothing when the time is over.
            await asyncio.wait([upcoming], timeout=seconds)
            if not upcoming.done():
                yield None
                continue
            try:
                item = upcoming.result()
            except StopAsyncIteration:
                return
            yield item
            upcoming = asyncio.ensure_future(anext(items))
    finally:
        upcoming.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait([upcoming])


# --8<-- [end:pings]
# --8<-- [start:owners]
Orders = AsyncGenerator[Order, None]
Pinged = AsyncGenerator[Order | None, None]


async def own_orders(quiet: Seconds = 20) -> AsyncIterator[Orders]:
    """Own the feed of one request: close it as soon as the response has ended."""
    async with aclosing(order_states(quiet)) as orders:
        yield orders


OwnOrders = Annotated[Orders, Depends(own_orders)]


async def own_pings(orders: OwnOrders, ping: Seconds = PING) -> AsyncIterator[Pinged]:
    """Own its pings. FastAPI closes what needs `own_orders` before `own_orders`."""
    async with aclosing(with_pings(orders, ping)) as feed:
        yield feed


OwnPings = Annotated[Pinged, Depends(own_pings)]


# --8<-- [end:owners]
# --8<-- [start:by_hand]
@app.get("/by-hand", response_class=EventSourceResponse)
async def by_hand(feed: OwnPings) -> AsyncIterator[ServerSentEvent]:
    """Send a ping that a page can see: an event with a name and data."""
    async for order in feed:
        if order is None:
            yield ServerSentEvent(data={}, event="ping")
        else:
            yield ServerSentEvent(data=order, event="order", id=order.state)


async def as_lines(feed: Pinged) -> AsyncIterator[str]:
    """Write each order as a line of JSON, and a ping as an empty line."""
    async for order in feed:
        if order is None:
            yield "\n"
        else:
            yield order.model_dump_json() + "\n"


@app.get("/ndjson")
async def ndjson(feed: OwnPings) -> StreamingResponse:
    """Send the same feed as NDJSON."""
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    lines = as_lines(feed)
    return StreamingResponse(lines, headers=headers, media_type="application/x-ndjson")


# --8<-- [end:by_hand]
# --8<-- [start:layers]
async def as_events(orders: Orders) -> AsyncIterator[sse_starlette.ServerSentEvent]:
    """Turn each state into an event of sse-starlette's."""
    async for order in orders:
        data = order.model_dump_json()
        yield sse_starlette.ServerSentEvent(data, event="order", id=order.state)


def ping_event() -> sse_starlette.ServerSentEvent:
    """Make what sse-starlette sends for a ping; by default it is a comment."""
    return sse_starlette.ServerSentEvent("{}", event="ping")


@app.get("/sse-starlette")
async def by_sse_starlette(orders: OwnOrders, ping: Seconds = PING) -> Response:
    """Let sse-starlette ping, as often as you say."""
    return sse_starlette.EventSourceResponse(
        as_events(orders), ping=ping, ping_message_factory=ping_event
    )


@app.get("/native", response_class=EventSourceResponse)
async def native(orders: OwnOrders) -> AsyncIterator[ServerSentEvent]:
    """Let FastAPI ping: a comment after 15 silent seconds, which it has fixed."""
    async for order in orders:
        yield ServerSentEvent(data=order, event="order", id=order.state)


# --8<-- [end:layers]
@app.get("/")
def page() -> FileResponse:
    """Show the feed in a browser, which notices when the connection has died."""
    return FileResponse(Path(__file__).with_suffix(".html"))


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8000)
