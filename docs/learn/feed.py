"""A feed of orders, as events: the application that the tests of this page test.

Run it:   uvicorn feed:app
Try it:   curl -N http://127.0.0.1:8000/orders
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated

from fastapi import Depends, FastAPI, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel

PAUSE = 0.5  # seconds between two orders

app = FastAPI()
log = logging.getLogger("uvicorn.error")
open_feeds: set[object] = set()


# --8<-- [start:producer]
class Order(BaseModel):
    """One order of the shop."""

    id: int
    state: str = "placed"


def take(number: int) -> Order:
    """Take an order out of the shop; OSError if the shop cannot be reached."""
    return Order(id=number)


async def orders(limit: int | None) -> AsyncGenerator[Order, None]:
    """Give each order as it comes, for ever or up to a limit."""
    me = object()
    open_feeds.add(me)
    try:
        number = 0
        while limit is None or number < limit:
            number += 1
            yield take(number)
            await asyncio.sleep(PAUSE)
    finally:
        open_feeds.discard(me)


# --8<-- [end:producer]
# --8<-- [start:route]
async def open_feed(
    limit: Annotated[int | None, Query(ge=1)] = None,
) -> AsyncIterator[AsyncIterator[Order]]:
    """Close the feed when the response ends, however it ends."""
    async with aclosing(orders(limit)) as feed:
        yield feed


@app.get("/orders", response_class=EventSourceResponse)
async def events(
    feed: Annotated[AsyncIterator[Order], Depends(open_feed)],
) -> AsyncIterator[ServerSentEvent]:
    """Send each order as an event, then an event that says how it ended."""
    try:
        async for order in feed:
            yield ServerSentEvent(event="order", data=order, id=str(order.id))
        yield ServerSentEvent(event="done", data={})
    except OSError:
        log.exception("The feed has failed.")
        yield ServerSentEvent(event="failed", data={"detail": "Please try again."})


@app.get("/status")
async def status() -> dict[str, int]:
    """Count the feeds that are open."""
    return {"open": len(open_feeds)}


# --8<-- [end:route]
