"""Wrong: the feed ends without saying so, and the browser asks for it again, for ever.

Run it:   uvicorn recipes.pitfalls.sse_basic.feed_without_end:app
Try it:   curl -N http://127.0.0.1:8000/events
          curl -N -H "Last-Event-ID: 2" http://127.0.0.1:8000/events
See it:   data: {"id": 7, "state": "paid"}

The page at `/` shows what a browser makes of it.
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
    """Send all there is, and return."""
    paid = {"id": 7, "state": "paid"}
    yield ServerSentEvent(data=paid, event="order", id="1", retry=500)
    shipped = {"id": 7, "state": "shipped"}
    yield ServerSentEvent(data=shipped, event="order", id="2")


# --8<-- [end:wrong]
@app.get("/")
def page() -> FileResponse:
    """Show in a browser how often it connects."""
    return FileResponse(Path(__file__).with_suffix(".html"))
