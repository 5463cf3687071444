"""Wrong: a browser drops an event without data, so its page never sees the end.

Run it:   uvicorn recipes.pitfalls.sse_basic.end_without_data:app
Try it:   curl -N http://127.0.0.1:8000/complete-events
          curl -N http://127.0.0.1:8000/events
See it:   event: end

The page at `/` shows what a browser makes of `/events`, the one at `/?complete-events`
what it makes of the other.
"""

from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse

# --8<-- [start:imports]
from fastapi.sse import EventSourceResponse, ServerSentEvent

# --8<-- [end:imports]
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
@app.get("/")
def page() -> FileResponse:
    """Show in a browser which events arrive."""
    return FileResponse(Path(__file__).with_suffix(".html"))
