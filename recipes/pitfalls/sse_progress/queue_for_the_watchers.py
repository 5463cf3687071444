"""Wrong: all watchers take from one queue, so each event reaches only one of them.

Run it:   uvicorn recipes.pitfalls.sse_progress.queue_for_the_watchers:app
Try it:   curl -N http://127.0.0.1:8000/events
          curl -N --max-time 1 http://127.0.0.1:8000/events
See it:   curl: (28) Operation timed out
"""

# --8<-- [start:program]
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.sse import EventSourceResponse, ServerSentEvent

queue: asyncio.Queue[int] = asyncio.Queue()


async def import_orders() -> None:
    """Tell the percent as the work goes on."""
    for percent in (25, 50, 75, 100):
        await asyncio.sleep(0.1)  # the work
        queue.put_nowait(percent)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Do the job while the application runs."""
    async with asyncio.TaskGroup() as group:
        group.create_task(import_orders())
        yield


app = FastAPI(lifespan=lifespan)


# --8<-- [end:program]
# --8<-- [start:wrong]
@app.get("/events", response_class=EventSourceResponse)
async def events() -> AsyncIterator[ServerSentEvent]:
    """Take the events of the job out of its queue."""
    percent = 0
    while percent < 100:
        percent = await queue.get()
        yield ServerSentEvent(data={"percent": percent}, event="progress")


# --8<-- [end:wrong]
