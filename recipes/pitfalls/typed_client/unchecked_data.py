"""Wrong: a dict is sent as it is, whatever the schema promises.

Run it:   uvicorn recipes.pitfalls.typed_client.unchecked_data:app
Try it:   curl -N http://127.0.0.1:8000/orders/7/events
See it:   data: {"type": "shipped", "carrier": "Snail & Sons", "expected": "soon"}
"""

# --8<-- [start:program]
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.sse import EventSourceResponse, ServerSentEvent

from recipes.typed_client import ANSWERS, OrderId

app = FastAPI()


# --8<-- [end:program]
# --8<-- [start:wrong]
@app.get(
    "/orders/{order_id}/events", response_class=EventSourceResponse, responses=ANSWERS
)
async def events(order_id: OrderId) -> AsyncIterator[ServerSentEvent]:
    """Stream what happens to an order."""
    data = {"type": "shipped", "carrier": "Snail & Sons", "expected": "soon"}
    yield ServerSentEvent(data=data, id=f"{order_id}-1")


# --8<-- [end:wrong]
