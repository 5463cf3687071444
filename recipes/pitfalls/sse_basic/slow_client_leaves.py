"""Wrong: a slow client that leaves rolls a transaction back and fills the log.

Run it:   uvicorn recipes.pitfalls.sse_basic.slow_client_leaves:app
Try it:   curl --limit-rate 1k --max-time 1 -o /dev/null http://127.0.0.1:8000/quiet-events
          curl --limit-rate 1k --max-time 1 -o /dev/null http://127.0.0.1:8000/events
          curl http://127.0.0.1:8000/outcomes
See it:   ["committed","rolled back"]
"""

from collections.abc import AsyncIterator

import anyio
from fastapi import Depends, FastAPI
from fastapi.sse import EventSourceResponse

app = FastAPI()
outcomes: list[str] = []


async def order_events() -> AsyncIterator[str]:
    """Make more than a slow client takes."""
    for _ in range(1000):
        yield "an order with a long list of items" * 1000


async def transaction() -> AsyncIterator[None]:
    """Commit when the response has ended, and roll back if it failed."""
    try:
        yield
    except Exception:
        outcomes.append("rolled back")
        raise
    outcomes.append("committed")


async def slow_client_may_leave() -> AsyncIterator[None]:
    """Drop the error that FastAPI raises when a slow client leaves, and no other."""
    try:
        yield
    except* anyio.BrokenResourceError:
        pass  # An event was waiting for a client that is gone.


# --8<-- [start:wrong]
WRONG = [Depends(transaction)]


@app.get("/events", response_class=EventSourceResponse, dependencies=WRONG)
async def feed() -> AsyncIterator[str]:
    """Stream the orders inside of a transaction."""
    async for order in order_events():
        yield order


# --8<-- [end:wrong]
# --8<-- [start:right]
RIGHT = [Depends(transaction), Depends(slow_client_may_leave)]  # the last ends first


@app.get("/quiet-events", response_class=EventSourceResponse, dependencies=RIGHT)
async def quiet_feed() -> AsyncIterator[str]:
    """Take a client that leaves for no error."""
    async for order in order_events():
        yield order


# --8<-- [end:right]
@app.get("/outcomes")
def get_outcomes() -> list[str]:
    """Tell how the transactions ended."""
    return outcomes
