"""Wrong: a task makes the pings, and goes on when its client has left.

Run it:   uvicorn recipes.pitfalls.sse_keepalive.ping_outlives_its_client:app
Try it:   curl -N --max-time 1 http://127.0.0.1:8000/events
          curl http://127.0.0.1:8000/tasks
See it:   {"running":2}
"""

# --8<-- [start:program]
import asyncio
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from fastapi.sse import EventSourceResponse, ServerSentEvent

from recipes.sse_keepalive import Order, order_states

PING = 0.5  # seconds between two pings
Queue = asyncio.Queue[Order | None]
tasks: set[asyncio.Task[Any]] = set()
app = FastAPI()


async def ping_for_ever(queue: Queue) -> None:
    """Put a ping into the queue, again and again."""
    while True:
        await asyncio.sleep(PING)
        queue.put_nowait(None)


async def put_orders(queue: Queue) -> None:
    """Put the states of an order into the same queue."""
    async for order in order_states(quiet=3600):
        queue.put_nowait(order)


@app.get("/tasks")
async def count() -> dict[str, int]:
    """Tell how many tasks run."""
    return {"running": sum(not task.done() for task in tasks)}


# --8<-- [end:program]
# --8<-- [start:wrong]
@app.get("/events", response_class=EventSourceResponse)
async def feed() -> AsyncIterator[ServerSentEvent]:
    """Let two tasks fill a queue, and send what comes out of it."""
    queue = Queue()
    tasks.add(asyncio.create_task(ping_for_ever(queue)))
    tasks.add(asyncio.create_task(put_orders(queue)))
    while True:
        order = await queue.get()
        if order is None:
            yield ServerSentEvent(data={}, event="ping")
        else:
            yield ServerSentEvent(data=order, event="order")


# --8<-- [end:wrong]
