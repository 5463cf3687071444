"""Wrong: an id that is no number is refused, and the browser never asks again.

Run it:   uvicorn recipes.pitfalls.sse_resumable.id_as_number:app
Try it:   curl -i -N -H "Last-Event-ID: 7f3a-2" http://127.0.0.1:8000/events
See it:   HTTP/1.1 422

The page at `/` shows what a browser makes of it.
"""

# --8<-- [start:program]
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Header
from fastapi.responses import FileResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

app = FastAPI()


@app.get("/")
def page() -> FileResponse:
    """Show in a browser how often it connects."""
    return FileResponse(Path(__file__).with_suffix(".html"))


# --8<-- [end:program]
# --8<-- [start:wrong]
@app.get("/events", response_class=EventSourceResponse)
async def feed(
    last_event_id: Annotated[int | None, Header()] = None,
) -> AsyncIterator[ServerSentEvent]:
    """Send the order after the last one that was seen."""
    order = (last_event_id or 0) + 1
    # Since the last release an id also names the log that it belongs to.
    yield ServerSentEvent(data={"order": order}, id=f"7f3a-{order}", retry=100)


# --8<-- [end:wrong]
