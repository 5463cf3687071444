"""Wrong: `wait_for` cancels the generator that it waits for, and so ends it.

Run it:   uvicorn recipes.pitfalls.sse_keepalive.timeout_ends_the_feed:app
Try it:   curl -N 'http://127.0.0.1:8000/events?quiet=2.5'
See it:   data: {"orders_sent": 1}
"""

# --8<-- [start:program]
import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.sse import EventSourceResponse, ServerSentEvent

from recipes.sse_keepalive import OwnOrders

PING = 0.5  # seconds of silence before a ping
app = FastAPI()


# --8<-- [end:program]
# --8<-- [start:wrong]
@app.get("/events", response_class=EventSourceResponse)
async def feed(orders: OwnOrders) -> AsyncIterator[ServerSentEvent]:
    """Wait for the next order with a limit, and ping when the limit is over."""
    sent = 0
    while True:
        try:
            order = await asyncio.wait_for(anext(orders), PING)
        except TimeoutError:
            yield ServerSentEvent(data={}, event="ping")
            continue
        except StopAsyncIteration:
            break
        sent += 1
        yield ServerSentEvent(data=order, event="order")
    yield ServerSentEvent(data={"orders_sent": sent}, event="end")


# --8<-- [end:wrong]
