"""Orders for a client that does not read: without a queue, and with two kinds.

Run it:   uvicorn docs.learn.backpressure:app
Try it:   curl -N --max-time 1 http://127.0.0.1:8000/direct
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi.responses import StreamingResponse

ROOM = 3  # orders in the bounded queue
NOTE = "x" * 970  # makes an order about 1,000 bytes long

app = FastAPI()
made: Counter[str] = Counter()


# --8<-- [start:producer]
async def orders(way: str) -> AsyncIterator[str]:
    """Make orders as fast as they are asked for, and count them."""
    while True:
        made[way] += 1
        yield f'{{"id": {made[way]}, "note": "{NOTE}"}}\n'
        await asyncio.sleep(0)


# --8<-- [end:producer]
# --8<-- [start:direct]
@app.get("/direct")
async def direct() -> StreamingResponse:
    """Send each order as it is made."""
    return StreamingResponse(orders("direct"))


# --8<-- [end:direct]
# --8<-- [start:queue]
Queue = asyncio.Queue[str]


async def fill(queue: Queue, way: str) -> None:
    """Put orders into a queue; this waits while the queue is full."""
    async for order in orders(way):
        await queue.put(order)


async def empty(queue: Queue) -> AsyncIterator[str]:
    """Take orders out of a queue, until the client leaves."""
    while True:
        yield await queue.get()
        await asyncio.sleep(0)  # A place at which this can always be cancelled.


@asynccontextmanager
async def filled(queue: Queue, way: str) -> AsyncIterator[Queue]:
    """Fill a queue in a task of its own until the block ends."""
    task = asyncio.create_task(fill(queue, way))
    try:
        yield queue
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


# --8<-- [end:queue]
# --8<-- [start:unbounded]
async def unbounded_queue() -> AsyncIterator[Queue]:
    """Give a queue that takes everything."""
    async with filled(asyncio.Queue(), "unbounded") as queue:
        yield queue


@app.get("/unbounded")
async def unbounded(
    queue: Annotated[Queue, Depends(unbounded_queue)],
) -> StreamingResponse:
    """Send what is in the queue."""
    return StreamingResponse(empty(queue))


# --8<-- [end:unbounded]
# --8<-- [start:bounded]
async def bounded_queue() -> AsyncIterator[Queue]:
    """Give a queue that has room for three orders."""
    async with filled(asyncio.Queue(maxsize=ROOM), "bounded") as queue:
        yield queue


@app.get("/bounded")
async def bounded(
    queue: Annotated[Queue, Depends(bounded_queue)],
) -> StreamingResponse:
    """Send what is in the queue."""
    return StreamingResponse(empty(queue))


# --8<-- [end:bounded]
@app.get("/made")
async def count() -> dict[str, int]:
    """Tell how many orders each way has made."""
    return dict(made)
