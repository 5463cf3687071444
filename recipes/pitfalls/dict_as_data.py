"""Wrong: sse-starlette writes a dict as Python does, and `JSON.parse` fails on it."""

from collections.abc import AsyncIterator

from fastapi import FastAPI
from sse_starlette import EventSourceResponse, ServerSentEvent

app = FastAPI()


# --8<-- [start:wrong]
async def events() -> AsyncIterator[ServerSentEvent]:
    """Hand over a dict and hope for JSON."""
    yield ServerSentEvent(data={"id": 7, "state": "paid", "gift": None})


# --8<-- [end:wrong]
@app.get("/events")
async def feed() -> EventSourceResponse:
    """Stream the events."""
    return EventSourceResponse(events())
