"""Streams without an end, one for each way to send one."""

import sys
from collections.abc import AsyncIterator

import anyio
from fastapi import FastAPI
from fastapi.sse import EventSourceResponse
from starlette.responses import StreamingResponse

FLOOD = 64 * 1024 * 1024  # bytes

app = FastAPI()


async def orders() -> AsyncIterator[str]:
    """Tell about one order, then wait for ever for the next."""
    try:
        yield "placed"
        await anyio.sleep_forever()
    finally:
        sys.stdout.write("cleaned up\n")


@app.get("/plain")
async def by_hand() -> StreamingResponse:
    """Stream through Starlette's own response."""
    events = (f"data: {order}\n\n" async for order in orders())
    return StreamingResponse(events, media_type="text/event-stream")


@app.get("/native", response_class=EventSourceResponse)
async def by_fastapi() -> AsyncIterator[str]:
    """Stream through fastapi.sse."""
    async for order in orders():
        yield order


@app.get("/flood")
async def flood() -> StreamingResponse:
    """Send at once what no buffer on the way can hold, and then go on for ever."""

    async def drops() -> AsyncIterator[bytes]:
        yield b"x" * FLOOD
        await anyio.sleep_forever()

    return StreamingResponse(drops())


def with_sse_starlette() -> FastAPI:
    """Give the app one more route; importing sse-starlette changes uvicorn."""
    # Imported here, so that `app` can be served without it.
    import sse_starlette

    @app.get("/sse-starlette", response_model=None)
    async def by_sse_starlette() -> sse_starlette.EventSourceResponse:
        return sse_starlette.EventSourceResponse(orders())

    return app
