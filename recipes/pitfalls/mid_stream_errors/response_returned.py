"""Wrong: the endpoint returns a response, and its response class wants it to yield.

Run it:   uvicorn recipes.pitfalls.mid_stream_errors.response_returned:app
Try it:   curl -N -sS -i http://127.0.0.1:8000/yielded-events
          curl -N -sS -i http://127.0.0.1:8000/events
See it:   curl: (18) transfer closed with outstanding read data remaining
"""

# --8<-- [start:program]
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.sse import EventSourceResponse

app = FastAPI()


async def orders() -> AsyncIterator[str]:
    """Give the orders."""
    yield "green tea"


# --8<-- [end:program]
# --8<-- [start:wrong]
@app.get("/events", response_class=EventSourceResponse)
async def feed() -> EventSourceResponse:
    """Return the events, as with sse-starlette."""
    return EventSourceResponse(orders())


# --8<-- [end:wrong]
# --8<-- [start:right]
@app.get("/yielded-events", response_class=EventSourceResponse)
async def yielded_feed() -> AsyncIterator[str]:
    """Yield the events; FastAPI makes the response."""
    async for order in orders():
        yield order


# --8<-- [end:right]
