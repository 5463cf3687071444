# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "anyio>=4.16",
#   "fastapi>=0.165",
#   "uvicorn>=0.54",
# ]
# ///
"""Give clients the types of an event stream, through the OpenAPI schema.

Run it:   uvicorn recipes.typed_client:app
Try it:   curl -N http://127.0.0.1:8000/orders/7/events
          curl -N -H 'Last-Event-ID: 8-2' http://127.0.0.1:8000/orders/8/events
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import date
from typing import Annotated, Any, Literal

import anyio
import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException, Path
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field, RootModel

PAUSE = 0.5  # seconds between two events


# --8<-- [start:models]
class Placed(BaseModel):
    """The customer has placed the order."""

    type: Literal["placed"] = "placed"
    items: list[str]


class Paid(BaseModel):
    """The money is there."""

    type: Literal["paid"] = "paid"
    cents: int


class Shipped(BaseModel):
    """The parcel is on its way."""

    type: Literal["shipped"] = "shipped"
    carrier: str
    expected: date


class Delivered(BaseModel):
    """The parcel has arrived. This is the last event of an order."""

    type: Literal["delivered"] = "delivered"
    signed_by: str | None


AnyEvent = Placed | Paid | Shipped | Delivered


class OrderEvent(RootModel[Annotated[AnyEvent, Field(discriminator="type")]]):
    """Any event of an order. Its `type` says which one it is."""


# --8<-- [end:models]
# --8<-- [start:producer]
EVENTS = [
    OrderEvent(Placed(items=["tea", "teapot"])),
    OrderEvent(Paid(cents=3480)),
    OrderEvent(Shipped(carrier="Snail & Sons", expected=date(2030, 1, 31))),
    OrderEvent(Delivered(signed_by=None)),
]
COUNT = len(EVENTS)  # also the number of the last event: the first one has number 1


Numbered = tuple[int, OrderEvent]


async def order_events(seen: int) -> AsyncGenerator[Numbered, None]:
    """Give the events after the first `seen`, each with its number, as they happen."""
    for number, event in enumerate(EVENTS[seen:], seen + 1):
        yield number, event
        await asyncio.sleep(PAUSE)


# --8<-- [end:producer]
# --8<-- [start:resume]
OrderId = Annotated[int, Path(ge=1, lt=1_000_000)]


def events_seen(order_id: int, last_event_id: str) -> int:
    """Say how many events a client has that names this id; an unknown id has none."""
    for number in range(1, COUNT + 1):
        if last_event_id == f"{order_id}-{number}":
            return number
    return 0


async def new_events(
    order_id: OrderId, last_event_id: Annotated[str, Header()] = ""
) -> AsyncIterator[AsyncIterator[Numbered]]:
    """Open the feed where the client left off, and close it when the client leaves."""
    seen = events_seen(order_id, last_event_id)
    if seen == COUNT:
        raise HTTPException(204)  # A browser that is told so does not come back.
    async with aclosing(order_events(seen)) as feed:
        try:
            yield feed
        except* anyio.BrokenResourceError:
            pass  # An event was waiting for a slow client that is gone.


# --8<-- [end:resume]
# --8<-- [start:route]
app = FastAPI(title="typed_client")
# FastAPI cannot see what is in a ServerSentEvent: tell it the model of the data.
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"model": OrderEvent, "description": "The data of each event"},
    204: {"description": "The client has the last event"},
}


@app.get(
    "/orders/{order_id}/events", response_class=EventSourceResponse, responses=ANSWERS
)
async def events(
    order_id: OrderId, feed: Annotated[AsyncIterator[Numbered], Depends(new_events)]
) -> AsyncIterator[ServerSentEvent]:
    """Stream what happens to an order, from where the client left off."""
    async for number, event in feed:
        yield ServerSentEvent(data=event, id=f"{order_id}-{number}")


# --8<-- [end:route]
if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8000)
