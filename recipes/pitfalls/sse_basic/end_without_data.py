"""Wrong: an event without data is never delivered, so the page waits for ever."""

from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.sse import EventSourceResponse, ServerSentEvent

app = FastAPI()


# --8<-- [start:wrong]
@app.get("/events", response_class=EventSourceResponse)
async def feed() -> AsyncIterator[ServerSentEvent]:
    """Say that it is over, by name only."""
    yield ServerSentEvent(data={"id": 7, "state": "paid"}, event="order", id="1")
    yield ServerSentEvent(event="end", id="end")


# --8<-- [end:wrong]
# --8<-- [start:right]
@app.get("/complete-events", response_class=EventSourceResponse)
async def complete_feed() -> AsyncIterator[ServerSentEvent]:
    """Say that it is over, with an empty object for data."""
    yield ServerSentEvent(data={"id": 7, "state": "paid"}, event="order", id="1")
    yield ServerSentEvent(data={}, event="end", id="end")


# --8<-- [end:right]
