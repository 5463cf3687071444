"""Streams without an end, one a layer, for the tests of what a stopping server does."""

import sys
from collections.abc import AsyncIterator

import anyio
from fastapi import FastAPI
from fastapi.sse import EventSourceResponse
from starlette.responses import StreamingResponse

app = FastAPI()


async def orders() -> AsyncIterator[str]:
    """Tell about one order, then wait for ever for the next."""
    try:
        yield "placed"
        await anyio.sleep_forever()
    finally:
        sys.stdout.write("cleaned up\n")


@app.get("/plain")
async def plain() -> StreamingResponse:
    """Stream by hand."""
    return StreamingResponse(f"data: {order}\n\n" async for order in orders())


@app.get("/native", response_class=EventSourceResponse)
async def native() -> AsyncIterator[str]:
    """Stream by fastapi.sse."""
    async for order in orders():
        yield order
