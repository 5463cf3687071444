"""Wrong: no field says which model an event is, so a client has to guess.

Run it:   uvicorn recipes.pitfalls.typed_client.no_discriminator:app
Try it:   curl -N http://127.0.0.1:8000/orders/7/events
See it:   data: {"cents":3480}
"""

# --8<-- [start:program]
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.sse import EventSourceResponse
from pydantic import BaseModel

app = FastAPI()


# --8<-- [end:program]
# --8<-- [start:wrong]
class Paid(BaseModel):
    """The money is there."""

    cents: int


class Refunded(BaseModel):
    """The money has gone back."""

    cents: int


@app.get("/orders/7/events", response_class=EventSourceResponse)
async def events() -> AsyncIterator[Paid | Refunded]:
    """Stream what happens to an order."""
    yield Paid(cents=3480)
    yield Refunded(cents=3480)


# --8<-- [end:wrong]
