"""An application whose streams fail and say nothing, for tests.kit.failures.

The recipe that does it right is mounted at `/recipe`, so that one server has both.
"""

from collections.abc import AsyncIterator

import sse_starlette
from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from recipes import mid_stream_errors
from recipes.mid_stream_errors import Order

app = FastAPI()
app.mount("/recipe", mid_stream_errors.app)


async def orders() -> AsyncIterator[Order]:
    """Give three orders in one go, and fail."""
    for number in (1, 2, 3):
        yield Order(id=number, item="tea")
    raise ConnectionError("on purpose")


@app.get("/native", response_class=EventSourceResponse)
async def native() -> AsyncIterator[ServerSentEvent]:
    """Let the exception leave FastAPI's own layer."""
    async for order in orders():
        yield ServerSentEvent(data=order, event="order")


@app.get("/refused", response_class=EventSourceResponse)
async def refused() -> AsyncIterator[ServerSentEvent]:
    """Look for the customer when the answer has begun."""
    yield ServerSentEvent(data=await missing())


async def missing() -> Order:
    """Find nothing."""
    raise HTTPException(404)


async def wrapped() -> AsyncIterator[sse_starlette.ServerSentEvent]:
    """Write the orders for sse-starlette."""
    async for order in orders():
        yield sse_starlette.ServerSentEvent(order.model_dump_json(), event="order")


@app.get("/sse-starlette")
async def by_sse_starlette() -> sse_starlette.EventSourceResponse:
    """Let the exception leave sse-starlette."""
    return sse_starlette.EventSourceResponse(wrapped())


async def framed() -> AsyncIterator[str]:
    """Write the orders as events."""
    async for order in orders():
        yield f"event: order\ndata: {order.model_dump_json()}\n\n"


@app.get("/by-hand")
async def by_hand() -> StreamingResponse:
    """Let the exception leave a response."""
    return StreamingResponse(framed(), media_type="text/event-stream")


@app.get("/ndjson")
async def ndjson() -> AsyncIterator[Order]:
    """Let the exception leave FastAPI's JSON Lines."""
    async for order in orders():
        yield order
