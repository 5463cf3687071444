"""Wrong: events pile up in memory behind a listener that does not read.

Run it:   uvicorn recipes.pitfalls.sse_broadcast.unbounded_queue:app
Try it:   curl -Z --parallel-immediate --limit-rate 1k --max-time 10 \
            -o /dev/null http://127.0.0.1:8000/events -o - http://127.0.0.1:8000/burst
See it:   More than 10,000 events wait for one listener
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
    queue: asyncio.Queue[bytes] = asyncio.Queue()  # It has no limit.
    listeners.add(queue)
    someone_listens.set()
    try:
        while True:
            yield await queue.get()
    finally:
        listeners.discard(queue)


def tell(event: bytes) -> None:
    """Put an event into all queues."""
    for queue in listeners:
        queue.put_nowait(event)


# --8<-- [end:wrong]
@app.get("/events")
async def events() -> StreamingResponse:
    """Send the events."""
    return StreamingResponse(listen(), media_type="text/event-stream")


@app.get("/burst", response_class=PlainTextResponse)
async def burst() -> str:
    """Tell 20,000 events, and give the listeners a turn after each."""
    await someone_listens.wait()
    for _ in range(20_000):
        tell(EVENT)
        await asyncio.sleep(0)
    most = max(queue.qsize() for queue in listeners)
    if most > 10_000:
        return "More than 10,000 events wait for one listener.\n"
    return f"{most} events wait for the slowest listener.\n"
