"""Wrong: EventSource takes an event named `error` for a lost connection.

Run it:   uvicorn recipes.pitfalls.sse_basic.event_named_error:app
Try it:   curl -N http://127.0.0.1:8000/named-events
          curl -N http://127.0.0.1:8000/events
See it:   event: error

The page at `/` shows what a browser makes of `/events`, the one at `/?named-events`
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
    """Report that a payment failed, under a name that EventSource uses itself."""
    yield ServerSentEvent(data={"id": 7, "state": "refused"}, event="error", id="1")


# --8<-- [end:wrong]
# --8<-- [start:right]
@app.get("/named-events", response_class=EventSourceResponse)
async def named_feed() -> AsyncIterator[ServerSentEvent]:
    """Report it under a name of your own."""
    yield ServerSentEvent(data={"id": 7, "state": "refused"}, event="failed", id="1")


# --8<-- [end:right]
@app.get("/")
def page() -> FileResponse:
    """Show in a browser which handlers are called."""
    return FileResponse(Path(__file__).with_suffix(".html"))
