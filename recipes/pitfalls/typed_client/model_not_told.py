"""Wrong: the schema does not say what is in the events.

Run it:   uvicorn recipes.pitfalls.typed_client.model_not_told:app
Try it:   curl http://127.0.0.1:8000/openapi.json
See it:   "schemas":{"HTTPValidationError"
"""

# --8<-- [start:program]
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.sse import EventSourceResponse, ServerSentEvent

from recipes.typed_client import OrderId, order_events

app = FastAPI()


# --8<-- [end:program]
# --8<-- [start:wrong]
@app.get("/orders/{order_id}/events", response_class=EventSourceResponse)
async def events(order_id: OrderId) -> AsyncIterator[ServerSentEvent]:
    """Stream what happens to an order."""
    async for number, event in order_events(0):
        yield ServerSentEvent(data=event, id=f"{order_id}-{number}")


# --8<-- [end:wrong]
