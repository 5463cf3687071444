"""Wrong: every page whose requests carry the cookie may read the customer's feed.

Run it:   uvicorn recipes.pitfalls.cross_origin.any_origin:app
Try it:   curl -N -i -H 'Origin: https://evil.example' http://127.0.0.1:8000/events
See it:   access-control-allow-origin: https://evil.example
"""

# --8<-- [start:program]
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.sse import EventSourceResponse, ServerSentEvent

from recipes.cross_origin import STATES, Customer, lifespan, order_states, sign_in

app = FastAPI(lifespan=lifespan)
app.post("/sign-in", status_code=204)(sign_in)


@app.get("/events", response_class=EventSourceResponse)
async def events(customer: Customer) -> AsyncIterator[ServerSentEvent]:
    """Send the states of the customer's order."""
    async for order in order_states(customer, STATES):
        yield ServerSentEvent(data=order, id=order.state)


# --8<-- [end:program]
# --8<-- [start:wrong]
app.add_middleware(
    CORSMiddleware,
    allow_origins=["*"],
    allow_credentials=True,
    allow_methods=["*"],
    allow_headers=["*"],
)
# --8<-- [end:wrong]
