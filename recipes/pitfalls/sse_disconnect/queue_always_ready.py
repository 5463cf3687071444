"""Wrong: the next order is always ready, so the stream is never cancelled.

Run it:   uvicorn recipes.pitfalls.sse_disconnect.queue_always_ready:app
Try it:   curl -N -sS --max-time 1 -o /dev/null http://127.0.0.1:8000/right-events
          curl -N -sS --max-time 1 -o /dev/null http://127.0.0.1:8000/events
          curl http://127.0.0.1:8000/streams
See it:   ["/events"]
"""

# --8<-- [start:program]
import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from fastapi.responses import StreamingResponse

app = FastAPI()
streams: list[str] = []  # those that are open


@app.get("/streams")
async def open_streams() -> list[str]:
    """Tell which streams are open."""
    return streams


Queue = asyncio.Queue[int]


async def fill(queue: Queue) -> None:
    """Put one order after the other into the queue, and let others work between."""
    order = 0
    while True:
        order += 1
        await queue.put(order)
        await asyncio.sleep(0)


async def filled_queue(request: Request) -> AsyncIterator[Queue]:
    """Fill a queue in a task of its own, until the stream ends."""
    queue = Queue(100)
    task = asyncio.create_task(fill(queue))
    streams.append(request.url.path)
    try:
        yield queue
    finally:
        streams.remove(request.url.path)
        task.cancel()


FilledQueue = Annotated[Queue, Depends(filled_queue)]


# --8<-- [end:program]
# --8<-- [start:wrong]
async def taken(queue: Queue) -> AsyncIterator[str]:
    """Take the orders out of the queue, until the client leaves."""
    while True:
        order = await queue.get()
        yield f"data: {order}\n\n"


@app.get("/events")
async def events(queue: FilledQueue) -> StreamingResponse:
    """Send the orders."""
    return StreamingResponse(taken(queue), media_type="text/event-stream")


# --8<-- [end:wrong]
# --8<-- [start:right]
async def taken_in_turn(queue: Queue) -> AsyncIterator[str]:
    """Take the orders out of the queue, until the client leaves."""
    while True:
        order = await queue.get()
        yield f"data: {order}\n\n"
        await asyncio.sleep(0)  # Here it can always be cancelled.


@app.get("/right-events")
async def right_events(queue: FilledQueue) -> StreamingResponse:
    """Send the same orders."""
    return StreamingResponse(taken_in_turn(queue), media_type="text/event-stream")


# --8<-- [end:right]
