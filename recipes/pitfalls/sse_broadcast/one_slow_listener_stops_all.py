"""Wrong: the source waits until the slowest listener has room.

Run it:   uvicorn recipes.pitfalls.sse_broadcast.one_slow_listener_stops_all:app
Try it:   curl -Z --parallel-immediate --limit-rate 1k --max-time 10 \
            -o /dev/null http://127.0.0.1:8000/events -o - http://127.0.0.1:8000/burst
See it:   Nobody hears anything any more
"""

# --8<-- [start:program]
import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse, StreamingResponse

EVENT = b"data: " + b"x" * 1024 + b"\n\n"

app = FastAPI()
someone_listens = asyncio.Event()


# --8<-- [end:program]
# --8<-- [start:wrong]
listeners: set[asyncio.Queue[bytes]] = set()


async def listen() -> AsyncIterator[bytes]:
    """Send what the queue of this listener holds."""
    queue: asyncio.Queue[bytes] = asyncio.Queue(100)
    listeners.add(queue)
    someone_listens.set()
    try:
        while True:
            yield await queue.get()
    finally:
        listeners.discard(queue)


async def tell(event: bytes) -> None:
    """Put an event into all queues; one that is full holds up all the others."""
    for queue in list(listeners):
        await queue.put(event)


# --8<-- [end:wrong]
@app.get("/events")
async def events() -> StreamingResponse:
    """Send the events."""
    return StreamingResponse(listen(), media_type="text/event-stream")


@app.get("/burst", response_class=PlainTextResponse)
async def burst() -> str:
    """Tell 20,000 events; give up if one of them takes a second."""
    await someone_listens.wait()
    for number in range(20_000):
        try:
            async with asyncio.timeout(1):
                await tell(EVENT)
        except TimeoutError:
            return f"Nobody hears anything any more: event {number} is stuck.\n"
    return "All 20,000 events were told.\n"
