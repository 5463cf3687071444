"""Wrong: the farewell tells every client to come back in the same moment.

Run it:   uvicorn recipes.pitfalls.graceful_shutdown.same_retry:app
Try it:   curl -N 'http://127.0.0.1:8000/orders?client=[1-3]'
See it:   retry: 1000
"""

# --8<-- [start:program]
import secrets
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.sse import EventSourceResponse, ServerSentEvent

app = FastAPI()


# --8<-- [end:program]
# --8<-- [start:wrong]
@app.get("/orders", response_class=EventSourceResponse)
async def orders() -> AsyncIterator[ServerSentEvent]:
    """Send one order and the farewell."""
    yield ServerSentEvent(data={"id": 1}, event="order", id="1")
    yield ServerSentEvent(data={}, event="farewell", retry=1000)


# --8<-- [end:wrong]
# --8<-- [start:right]
@app.get("/right", response_class=EventSourceResponse)
async def right() -> AsyncIterator[ServerSentEvent]:
    """Send one order, and a farewell with a wait for this client alone."""
    yield ServerSentEvent(data={"id": 1}, event="order", id="1")
    retry = 1000 + secrets.randbelow(2001)  # milliseconds
    yield ServerSentEvent(data={}, event="farewell", retry=retry)


# --8<-- [end:right]
