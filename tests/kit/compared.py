"""An application that says what happens to its streams, for tests.kit.compare."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse

LARGE = "x" * 65_536


def say(text: str) -> None:
    """Write a line that `compare` waits for."""
    print(text, flush=True)  # noqa: T201 - the server's output is what is read


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Say when the application ends."""
    logging.raiseExceptions = False  # A server may close its log before it ends.
    yield
    say("lifespan ended")


async def held() -> AsyncIterator[None]:
    """Stand for what a request holds, such as a connection."""
    try:
        yield
    finally:
        say("dependency left")


app = FastAPI(lifespan=lifespan)
gate = asyncio.Event()
HELD = [Depends(held)]


async def two() -> AsyncIterator[str]:
    """Give one chunk, and the next when `/go` is asked."""
    yield "one\n"
    await gate.wait()
    yield "two\n"


async def silent() -> AsyncIterator[str]:
    """Give one chunk, and then nothing for ever."""
    try:
        yield "one\n"
        await asyncio.Event().wait()
    finally:
        say("generator ended")


async def endless() -> AsyncIterator[str]:
    """Give large chunks without end, with a chance for others after each."""
    try:
        while True:
            yield LARGE
            await asyncio.sleep(0)
    finally:
        say("generator ended")


async def broken() -> AsyncIterator[str]:
    """Give one chunk, and fail."""
    yield "one\n"
    raise RuntimeError("on purpose")


@app.get("/go")
async def go() -> None:
    """Let the second chunk of `/two` go."""
    gate.set()


@app.get("/two")
async def send_two() -> StreamingResponse:
    """Send two chunks."""
    return StreamingResponse(two())


@app.get("/silent", dependencies=HELD)
async def send_silent() -> StreamingResponse:
    """Send one chunk, and nothing more."""
    return StreamingResponse(silent())


@app.get("/endless", dependencies=HELD)
async def send_endless() -> StreamingResponse:
    """Send more than any buffer takes."""
    return StreamingResponse(endless())


@app.get("/broken")
async def send_broken() -> StreamingResponse:
    """Fail in mid-stream."""
    return StreamingResponse(broken())


@app.get("/events", response_class=EventSourceResponse, dependencies=HELD)
async def send_events() -> AsyncIterator[str]:
    """Send one event, and then nothing."""
    async for text in silent():
        yield text


async def broken_at_once() -> AsyncIterator[str]:
    """Fail before the first chunk."""
    if LARGE:
        raise RuntimeError("on purpose")
    yield LARGE


@app.get("/broken-at-once")
async def send_broken_at_once() -> StreamingResponse:
    """Fail before the first chunk."""
    return StreamingResponse(broken_at_once())


@app.get("/scope")
async def scope(request: Request) -> dict[str, Any]:
    """Say which version of ASGI's HTTP the server speaks."""
    asgi: dict[str, Any] = request.scope["asgi"]
    return asgi
