"""Wrong: an event named `error` is taken for a lost connection."""

from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.sse import EventSourceResponse, ServerSentEvent

app = FastAPI()


# --8<-- [start:wrong]
@app.get("/events", response_class=EventSourceResponse)
async def feed() -> AsyncIterator[ServerSentEvent]:
    """Report that a payment failed, under a name that EventSource uses itself."""
    yield ServerSentEvent(data={"id": 7, "state": "refused"}, event="error", id="1")


# --8<-- [end:wrong]
# --8<-- [start:right]
@app.get("/named-events", response_class=EventSourceResponse)
async def named_feed() -> AsyncIterator[ServerSentEvent]:
    """Report it under a name of your own."""
    yield ServerSentEvent(data={"id": 7, "state": "refused"}, event="failed", id="1")


# --8<-- [end:right]
