"""Wrong: a middleware joins the body to log its size, so all arrives at the end.

Run it:   uvicorn recipes.pitfalls.stream_middleware.join_body:app
Try it:   curl -N --max-time 1.5 http://127.0.0.1:8000/orders
See it:   with 0 bytes received
"""

# --8<-- [start:program]
import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

app = FastAPI()
Next = Callable[[Request], Awaitable[Any]]
log = logging.getLogger("uvicorn.error")


async def rows() -> AsyncIterator[bytes]:
    """Make five orders, one each half second."""
    for number in range(1, 6):
        yield b'{"id": %d}\n' % number
        await asyncio.sleep(0.5)


@app.get("/orders")
async def orders() -> StreamingResponse:
    """Send them as they are made."""
    return StreamingResponse(rows(), media_type="application/x-ndjson")


# --8<-- [end:program]
# --8<-- [start:wrong]
@app.middleware("http")
async def log_size(request: Request, call_next: Next) -> Response:
    """Write down how long the body is."""
    response = await call_next(request)
    body = b"".join([chunk async for chunk in response.body_iterator])
    log.info("%s: %d bytes", request.url.path, len(body))
    return Response(body, response.status_code, dict(response.headers))


# --8<-- [end:wrong]
