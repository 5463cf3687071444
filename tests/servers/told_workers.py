"""An application that says which process answers, and streams without an end."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

log = logging.getLogger("uvicorn.error")
asked = 0  # requests to this process


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Say that the process is ready, and that it ends."""
    log.info("begin %d.", os.getpid())
    yield
    log.info("end %d.", os.getpid())


app = FastAPI(lifespan=lifespan)


async def lines() -> AsyncIterator[str]:
    """Say which process this is, and wait."""
    yield f"{os.getpid()}\n"
    await asyncio.Event().wait()


@app.get("/stream")
async def stream() -> StreamingResponse:
    """Stay open."""
    return StreamingResponse(lines(), media_type="text/plain")


@app.get("/count")
async def count() -> dict[str, int]:
    """Count the requests that this process has had."""
    global asked
    asked += 1
    return {"process": os.getpid(), "asked": asked}
