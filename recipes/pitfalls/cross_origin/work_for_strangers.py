"""Wrong: CORS hides the feed from a strange page, but the server makes it.

Run it:   uvicorn recipes.pitfalls.cross_origin.work_for_strangers:app
Try it:   curl -N --max-time 5 -H 'Origin: https://evil.example' http://127.0.0.1:8000/events
          curl http://127.0.0.1:8000/told
See it:   {"told":5}
"""

# --8<-- [start:program]
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.sse import EventSourceResponse, ServerSentEvent

from recipes.cross_origin import ORIGINS, STATES, Customer, lifespan, order_states

app = FastAPI(lifespan=lifespan)
told: list[str] = []


@app.get("/told")
async def count() -> dict[str, int]:
    """Count the states that the server has made."""
    return {"told": len(told)}


# --8<-- [end:program]
# --8<-- [start:wrong]
app.add_middleware(CORSMiddleware, allow_origins=ORIGINS, allow_credentials=True)


@app.get("/events", response_class=EventSourceResponse)
async def events(customer: Customer) -> AsyncIterator[ServerSentEvent]:
    """Send the states of the customer's order."""
    async for order in order_states(customer, STATES):
        told.append(order.state)
        yield ServerSentEvent(data=order, id=order.state)


# --8<-- [end:wrong]
