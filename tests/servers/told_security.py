"""An application that tells what it has been told about its client."""

import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

app = FastAPI()


@app.get("/told")
async def told(request: Request) -> dict[str, str | int | None]:
    """Give the address, the scheme and the host that the application believes in."""
    return {
        "client": request.client.host if request.client else None,
        "url": str(request.url),
        "header": len(request.headers.get("x-long", "")),
    }


@app.post("/body")
async def body(request: Request) -> int:
    """Count the bytes of a body."""
    return len(await request.body())


async def lines() -> AsyncIterator[str]:
    """Give one line, and wait for ever."""
    yield "one\n"
    await asyncio.Event().wait()


@app.get("/stream")
async def stream() -> StreamingResponse:
    """Send the line."""
    return StreamingResponse(lines(), media_type="text/plain")
