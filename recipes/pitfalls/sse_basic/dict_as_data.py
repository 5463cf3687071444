"""Wrong: sse-starlette writes a dict as Python does, and `JSON.parse` fails on it."""

import json
from collections.abc import AsyncIterator

from fastapi import FastAPI
from sse_starlette import EventSourceResponse, ServerSentEvent

app = FastAPI()


# --8<-- [start:wrong]
async def events() -> AsyncIterator[ServerSentEvent]:
    """Hand over a dict and hope for JSON."""
    yield ServerSentEvent(data={"id": 7, "state": "paid", "gift": None})


# --8<-- [end:wrong]
# --8<-- [start:right]
async def json_events() -> AsyncIterator[ServerSentEvent]:
    """Write the JSON yourself."""
    yield ServerSentEvent(data=json.dumps({"id": 7, "state": "paid", "gift": None}))


# --8<-- [end:right]
@app.get("/events")
async def feed() -> EventSourceResponse:
    """Stream the dict as it is."""
    return EventSourceResponse(events())


@app.get("/json-events")
async def json_feed() -> EventSourceResponse:
    """Stream it as JSON."""
    return EventSourceResponse(json_events())
