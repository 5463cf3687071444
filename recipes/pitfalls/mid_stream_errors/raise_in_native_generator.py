"""Wrong: an exception that leaves a generator of `fastapi.sse` takes an event with it.

Run it:   uvicorn recipes.pitfalls.mid_stream_errors.raise_in_native_generator:app
Try it:   curl -N -sS http://127.0.0.1:8000/told-events
          curl -N -sS http://127.0.0.1:8000/events
See it:   curl: (18) transfer closed with outstanding read data remaining
"""

# --8<-- [start:program]
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.sse import EventSourceResponse, ServerSentEvent

app = FastAPI()


async def orders() -> AsyncIterator[int]:
    """Read three orders in one go; the database fails at the next."""
    for number in (1, 2, 3):
        yield number
    raise ConnectionError


# --8<-- [end:program]
# --8<-- [start:wrong]
@app.get("/events", response_class=EventSourceResponse)
async def feed() -> AsyncIterator[ServerSentEvent]:
    """Send an event for each order."""
    async for number in orders():
        yield ServerSentEvent(data={"id": number}, event="order")


# --8<-- [end:wrong]
# --8<-- [start:right]
@app.get("/told-events", response_class=EventSourceResponse)
async def told_feed() -> AsyncIterator[ServerSentEvent]:
    """Let no exception leave, and send a last event in its place."""
    last = "done"
    try:
        async for number in orders():
            yield ServerSentEvent(data={"id": number}, event="order")
    except ConnectionError:
        last = "failed"
    yield ServerSentEvent(data={}, event=last)


# --8<-- [end:right]
