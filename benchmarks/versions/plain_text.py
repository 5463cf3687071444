"""The three ways of the recipe, without its pause, and without a framework."""

from collections.abc import AsyncIterator, Iterator
from urllib.parse import parse_qs

from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from recipes.plain_text import TextStream

app = FastAPI()


def packing_slip(lines: int) -> Iterator[str]:
    """Tell about the items."""
    for number in range(lines):
        yield f"packed: item {number}\n"


async def packing_slip_async(lines: int) -> AsyncIterator[str]:
    """Tell the same, without a thread."""
    for number in range(lines):
        yield f"packed: item {number}\n"


@app.get("/sync")
def from_a_sync_generator(lines: int) -> TextStream:
    """Stream from a plain generator."""
    return TextStream(packing_slip(lines))


@app.get("/async")
async def from_an_async_generator(lines: int) -> TextStream:
    """Stream from an async generator."""
    return TextStream(packing_slip_async(lines))


@app.get("/route", response_class=TextStream)
async def from_the_route_itself(lines: int) -> AsyncIterator[str]:
    """Let the path operation be the generator."""
    async for line in packing_slip_async(lines):
        yield line


async def raw(scope: Scope, receive: Receive, send: Send) -> None:
    """Send the lines, with nothing between them and the server."""
    if scope["type"] != "http":
        return
    await receive()
    lines = int(parse_qs(scope["query_string"].decode())["lines"][0])
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    async for line in packing_slip_async(lines):
        chunk = line.encode()
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
