"""Wrong: `null` is on the list, and every site can make a page whose origin that is.

Run it:   uvicorn recipes.pitfalls.cross_origin.null_origin:app
Try it:   curl -N -i -H 'Origin: null' http://127.0.0.1:8000/events
See it:   access-control-allow-origin: null
"""

# --8<-- [start:program]
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.sse import EventSourceResponse, ServerSentEvent

from recipes.cross_origin import STATES, order_states

app = FastAPI()


@app.get("/events", response_class=EventSourceResponse)
async def events() -> AsyncIterator[ServerSentEvent]:
    """Send the states of an order to whom the network lets in."""
    async for order in order_states("office", STATES):
        yield ServerSentEvent(data=order, id=order.state)


# --8<-- [end:program]
# --8<-- [start:wrong]
app.add_middleware(
    CORSMiddleware,
    allow_origins=["http://127.0.0.1:8003", "null"],
)
# --8<-- [end:wrong]
