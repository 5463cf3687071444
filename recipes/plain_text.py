# /// script
# requires-python = ">=3.11"
# dependencies = ["fastapi>=0.165", "uvicorn>=0.54"]
# ///
"""Send text while it is being made.

Run it:   uvicorn recipes.plain_text:app
Try it:   curl -N http://127.0.0.1:8000/async/1
          curl -N http://127.0.0.1:8000/sync/1
          curl -N http://127.0.0.1:8000/route/2
          curl -N http://127.0.0.1:8000/bytes/2
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Annotated

import uvicorn
from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

app = FastAPI(title="plain_text")

PAUSE = 0.25  # seconds to pick one item from the shelf


# --8<-- [start:order]
class Order(BaseModel):
    """One order of the shop."""

    id: int
    customer: str
    items: list[str]


ORDERS = {
    1: Order(id=1, customer="Ada", items=["green tea", "tea pot", "honey"]),
    2: Order(id=2, customer="Zoë", items=["crème brûlée", "rosé", "jalapeño"]),
}


async def find_order(order_id: int) -> Order:
    """Give the order with this id; raise HTTPException 404 if there is none."""
    if order_id not in ORDERS:
        known = ", ".join(map(str, ORDERS))
        raise HTTPException(404, f"There is no order {order_id}; there are {known}.")
    return ORDERS[order_id]


Found = Annotated[Order, Depends(find_order)]


# --8<-- [end:order]
# --8<-- [start:async]
async def packing_slip_async(order: Order) -> AsyncIterator[str]:
    """Pack one order; give a line of text for each step, without a thread."""
    yield f"Order {order.id} for {order.customer}\n"
    for item in order.items:
        await asyncio.sleep(PAUSE)  # The server serves others meanwhile.
        yield f"packed: {item}\n"
    yield "Ready to ship\n"


class TextStream(StreamingResponse):
    """Text in UTF-8; Starlette adds the charset to every `text/` type."""

    media_type = "text/plain"


@app.get("/async/{order_id}")
async def from_an_async_generator(order: Found) -> TextStream:
    """Stream from an async generator: right for code that awaits."""
    return TextStream(packing_slip_async(order))


# --8<-- [end:async]
# --8<-- [start:sync]
def packing_slip(order: Order) -> Iterator[str]:
    """Pack one order; give a line of text for each step, and block meanwhile."""
    yield f"Order {order.id} for {order.customer}\n"
    for item in order.items:
        time.sleep(PAUSE)  # Starlette runs a plain generator in a thread.
        yield f"packed: {item}\n"
    yield "Ready to ship\n"


@app.get("/sync/{order_id}")
def from_a_sync_generator(order: Found) -> TextStream:
    """Stream from a plain generator: right for code that blocks."""
    return TextStream(packing_slip(order))


# --8<-- [end:sync]
# --8<-- [start:route]
@app.get("/route/{order_id}", response_class=TextStream)
async def from_the_route_itself(order: Found) -> AsyncIterator[str]:
    """Let the path operation be the generator; FastAPI builds the response."""
    async for line in packing_slip_async(order):
        yield line


# --8<-- [end:route]
# --8<-- [start:bytes]
def in_latin_1(lines: Iterator[str]) -> Iterator[bytes]:
    """Encode each line in ISO 8859-1, one byte a character."""
    for line in lines:
        yield line.encode("iso-8859-1")


@app.get("/bytes/{order_id}")
def in_another_charset(order: Found) -> StreamingResponse:
    """Send bytes: nothing encodes them for you, so the charset is yours to name."""
    lines = in_latin_1(packing_slip(order))
    return StreamingResponse(lines, media_type="text/plain; charset=iso-8859-1")


# --8<-- [end:bytes]
if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8000)
