"""Wrong: the ping is sent only when an event comes, so the silence has none.

Run it:   uvicorn recipes.pitfalls.sse_keepalive.ping_waits_for_data:app
Try it:   curl -N 'http://127.0.0.1:8000/events?quiet=2.5'
See it:   data: {"silent_for": 2}
"""

# --8<-- [start:program]
import time
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.sse import EventSourceResponse, ServerSentEvent

from recipes.sse_keepalive import OwnOrders

PING = 1.0  # seconds of silence before a ping
app = FastAPI()


# --8<-- [end:program]
# --8<-- [start:wrong]
@app.get("/events", response_class=EventSourceResponse)
async def feed(orders: OwnOrders) -> AsyncIterator[ServerSentEvent]:
    """Look at the clock whenever an order comes."""
    last = time.monotonic()
    async for order in orders:
        silence = time.monotonic() - last
        if silence > PING:
            yield ServerSentEvent(data={"silent_for": int(silence)}, event="ping")
        last = time.monotonic()
        yield ServerSentEvent(data=order, event="order")


# --8<-- [end:wrong]
