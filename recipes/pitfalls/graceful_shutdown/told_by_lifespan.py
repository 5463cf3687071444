"""Wrong: the streams wait for the lifespan's end, and the server waits for the streams.

Run it:   uvicorn recipes.pitfalls.graceful_shutdown.told_by_lifespan:app
Try it:   curl -N --max-time 3 http://127.0.0.1:8000/orders
See it:   Operation timed out
"""

# --8<-- [start:program]
import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.sse import EventSourceResponse, ServerSentEvent

stopping = asyncio.Event()


def deploy() -> None:
    """Stand for your deployment: tell this process to stop."""
    os.kill(os.getpid(), signal.SIGTERM)


# --8<-- [end:program]
# --8<-- [start:wrong]
@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """End the streams when the server stops."""
    yield
    stopping.set()


app = FastAPI(lifespan=lifespan)


@app.get("/orders", response_class=EventSourceResponse)
async def orders() -> AsyncIterator[ServerSentEvent]:
    """Send orders until the server stops, and then a farewell."""
    number = 0
    while not stopping.is_set():
        number += 1
        yield ServerSentEvent(data={"id": number}, event="order")
        if number == 2:
            deploy()
        await asyncio.sleep(0.5)
    yield ServerSentEvent(data={}, event="farewell", retry=1000)


# --8<-- [end:wrong]
