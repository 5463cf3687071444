"""Wrong: each connection counts its events anew, so a client gets some of them twice.

Run it:   uvicorn recipes.pitfalls.sse_resumable.id_per_connection:app
Try it:   curl -N -H "Last-Event-ID: 3" http://127.0.0.1:8000/right-events
          curl -N -H "Last-Event-ID: 3" http://127.0.0.1:8000/events
          curl -N -H "Last-Event-ID: 2" http://127.0.0.1:8000/events
See it:   data: {"order": 4}
"""

# --8<-- [start:program]
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, FastAPI, Header
from fastapi.sse import EventSourceResponse, ServerSentEvent

app = FastAPI()
ORDERS = [{"order": number} for number in range(1, 6)]  # what the log keeps


def count_seen(last_event_id: Annotated[str, Header()] = "") -> int:
    """Say how many orders a client has seen; none if its id is no number."""
    return int(last_event_id) if last_event_id.isdecimal() else 0


Seen = Annotated[int, Depends(count_seen)]


# --8<-- [end:program]
# --8<-- [start:wrong]
@app.get("/events", response_class=EventSourceResponse)
async def feed(seen: Seen) -> AsyncIterator[ServerSentEvent]:
    """Send what the client has not seen, and count what is sent."""
    for number, order in enumerate(ORDERS[seen:], start=1):
        yield ServerSentEvent(data=order, id=str(number))


# --8<-- [end:wrong]
# --8<-- [start:right]
@app.get("/right-events", response_class=EventSourceResponse)
async def right_feed(seen: Seen) -> AsyncIterator[ServerSentEvent]:
    """Send what the client has not seen, each with its place in the log."""
    for number, order in enumerate(ORDERS[seen:], start=seen + 1):
        yield ServerSentEvent(data=order, id=str(number))


# --8<-- [end:right]
