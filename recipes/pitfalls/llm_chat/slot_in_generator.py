"""Wrong: the place comes back when the garbage collector finds the generator."""

import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse

app = FastAPI()
open_streams: list[str] = []


# --8<-- [start:wrong]
async def tokens() -> AsyncIterator[str]:
    """Stream, and give the place back in the end, if there is one."""
    try:
        while True:
            yield "token\n"
            await asyncio.sleep(0)
    finally:
        open_streams.pop()


@app.post("/chat/stream")
async def stream() -> StreamingResponse:
    """Take the place here, because only here a 429 is possible."""
    if len(open_streams) >= 3:
        raise HTTPException(429)
    open_streams.append("client")
    return StreamingResponse(tokens(), media_type="text/plain")


# --8<-- [end:wrong]
