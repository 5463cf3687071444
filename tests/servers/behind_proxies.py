"""An application for the tests of nginx and Caddy: it tells what reaches it.

GET  /first?type=…    sends one chunk, and another one when somebody asks for /go
GET  /sized           the same, with a Content-Length
GET  /flood           sends more than the buffers on the way can hold
GET  /open            the stream for a page: an event when somebody asks for /go
POST /go              lets every body go on that waits
POST /pings           reads a body, then sends a byte four times a second
POST /upload?name=…   tells of each chunk that it gets
GET  /who             says what the application knows about its client
"""

import asyncio
import itertools
import os
import sys
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, StreamingResponse
from starlette.requests import ClientDisconnect

from recipes import file_download, sse_keepalive

FIRST = b"first\n"
LAST = b"last\n"
EVENT = b"data: first\n\n"
BIG = b"x" * 1024 * 1024
PINGS = 5  # in more than a second

app = FastAPI(lifespan=file_download.lifespan)
go = asyncio.Event()
numbers = itertools.count(1)  # of the streams


def tell(line: str) -> None:
    """Write a line that a test waits for."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def gated(first: bytes, last: bytes, headers: dict[str, str]) -> StreamingResponse:
    """Send the first chunk, and the last when somebody has asked for /go."""
    go.clear()
    number = next(numbers)

    async def body() -> AsyncIterator[bytes]:
        tell(f"opened {number}.")
        try:
            yield first
            await go.wait()
            yield last
        finally:
            tell(f"left {number}.")

    return StreamingResponse(
        body(),
        headers=headers | {"x-number": str(number), "x-process": str(os.getpid())},
    )


@app.get("/first")
async def first(type: str = "text/plain") -> StreamingResponse:  # noqa: A002
    """Send two chunks of any media type, without a header for the proxy."""
    return gated(FIRST, LAST, {"content-type": type})


@app.get("/sized")
async def sized() -> StreamingResponse:
    """Send a body whose length is known from the start."""
    return gated(FIRST, LAST, {"content-length": str(len(FIRST + LAST))})


@app.get("/open")
async def events() -> StreamingResponse:
    """Send one event, and nothing more."""
    return gated(EVENT, b"", {"content-type": "text/event-stream"})


@app.get("/page")
async def page() -> HTMLResponse:
    """Give a page in which a test opens streams."""
    return HTMLResponse("<!doctype html><title>Streams</title>")


@app.get("/flood")
async def flood() -> StreamingResponse:
    """Send to a client that does not read."""

    async def drops() -> AsyncIterator[bytes]:
        sent = 0
        try:
            while True:
                yield BIG
                sent += 1
                await asyncio.sleep(0)
        finally:
            tell(f"flood over after {sent} MB")

    return StreamingResponse(drops())


@app.post("/go")
async def let_go() -> None:
    """Let every body go on that waits."""
    go.set()


@app.post("/pings")
async def pings(request: Request) -> StreamingResponse:
    """Read the body, then send a byte four times a second."""
    await request.body()

    async def body() -> AsyncIterator[bytes]:
        for _ in range(PINGS):
            yield b"."
            await asyncio.sleep(0.25)

    return StreamingResponse(body())


@app.post("/upload")
async def upload(request: Request, name: str) -> Response:
    """Tell of each chunk; answer with the number of bytes."""
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            tell(f"{name}: {size}.")
    except ClientDisconnect:
        tell(f"{name}: given up.")
    return Response(str(size))


@app.get("/who")
async def who(request: Request) -> dict[str, object]:
    """Say what the application knows about its client."""
    client = request.client.host if request.client else None
    headers = dict(request.headers)
    return {"client": client, "url": str(request.url), "headers": headers}


app.mount("/sse_keepalive", sse_keepalive.app)
app.mount("/", file_download.app)
