"""Five orders, one every half second, and three routes that send them all at once.

Run it:   uvicorn docs.production.diagnosis:app
"""

# --8<-- [start:generator]
import asyncio
from collections.abc import AsyncIterator

from fastapi import Depends, FastAPI, Response
from pydantic import BaseModel

app = FastAPI(title="diagnosis")

PAUSE = 0.5  # seconds to make one order


class Order(BaseModel):
    """What the shop tells about one order."""

    id: int
    item: str = "tea"


async def all_orders() -> AsyncIterator[Order]:
    """Make the orders, and say on the terminal when each is made."""
    for number in range(1, 6):
        print(f"made order {number}", flush=True)
        yield Order(id=number)
        await asyncio.sleep(PAUSE)


@app.get("/orders")
async def orders() -> AsyncIterator[Order]:
    """Send each order as a line of JSON, as soon as it is made."""
    async for order in all_orders():
        yield order


# --8<-- [end:generator]
# --8<-- [start:collected]
async def collected_orders() -> AsyncIterator[Order]:
    """Wrong: the first order waits in a list until the last one is made."""
    found = [order async for order in all_orders()]
    for order in found:
        yield order


@app.get("/collected")
async def collected() -> AsyncIterator[Order]:
    """Send what comes out of a generator that collects."""
    async for order in collected_orders():
        yield order


# --8<-- [end:collected]
# --8<-- [start:returned]
@app.get("/returned")
async def returned() -> list[Order]:
    """Wrong: an endpoint that returns has everything before the head goes out."""
    return [order async for order in all_orders()]


# --8<-- [end:returned]
# --8<-- [start:unbuffered]
async def tell_nginx(response: Response) -> None:
    """Ask nginx to pass each chunk on as it comes."""
    response.headers["X-Accel-Buffering"] = "no"


@app.get("/unbuffered", dependencies=[Depends(tell_nginx)])
async def unbuffered() -> AsyncIterator[Order]:
    """Send the orders with that header; in the endpoint it would be too late."""
    async for order in all_orders():
        yield order


# --8<-- [end:unbuffered]
