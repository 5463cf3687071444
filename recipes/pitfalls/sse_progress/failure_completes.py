"""Wrong: the last event is sent whatever has happened, so a failure looks like success.

Run it:   uvicorn recipes.pitfalls.sse_progress.failure_completes:app
Try it:   curl -N http://127.0.0.1:8000/honest-events
          curl -N http://127.0.0.1:8000/events
See it:   event: completed
"""

# --8<-- [start:program]
import logging
from collections.abc import AsyncIterator, Iterator

from fastapi import FastAPI
from fastapi.sse import EventSourceResponse, ServerSentEvent

app = FastAPI()
log = logging.getLogger("uvicorn.error")


def import_orders() -> Iterator[int]:
    """Give each quantity; raises ValueError at one that is no number."""
    yield 2
    yield 1
    yield int("a few")


# --8<-- [end:program]
# --8<-- [start:wrong]
@app.get("/events", response_class=EventSourceResponse)
async def events() -> AsyncIterator[ServerSentEvent]:
    """Tell how many rows are done, log an error, and end as always."""
    rows = 0
    try:
        for _ in import_orders():
            rows += 1
            yield ServerSentEvent(data={"rows": rows}, event="progress")
    except ValueError:
        log.exception("The import failed")
    yield ServerSentEvent(data={"rows": rows}, event="completed")


# --8<-- [end:wrong]
# --8<-- [start:right]
@app.get("/honest-events", response_class=EventSourceResponse)
async def honest_events() -> AsyncIterator[ServerSentEvent]:
    """End with one of two events, each with a name of its own."""
    rows = 0
    try:
        for _ in import_orders():
            rows += 1
            yield ServerSentEvent(data={"rows": rows}, event="progress")
    except ValueError:
        log.exception("The import failed")
        told = {"line": rows + 1, "reason": "quantity: It must be a number"}
        yield ServerSentEvent(data=told, event="failed")
    else:
        yield ServerSentEvent(data={"rows": rows}, event="completed")


# --8<-- [end:right]
