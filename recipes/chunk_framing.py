# /// script
# requires-python = ">=3.11"
# dependencies = ["fastapi>=0.165", "uvicorn>=0.54"]
# ///
"""Read lines from chunks, and answer each line while the next is on its way.

Run it:   uvicorn recipes.chunk_framing:app
Try it:   curl -N 'http://127.0.0.1:8000/orders.ndjson?size=29'
          curl -N -X POST -T docs/clients/orders.ndjson http://127.0.0.1:8000/orders
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Annotated, NamedTuple

import uvicorn
from fastapi import FastAPI, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive

LINE = 1000  # bytes of the longest line that is read
BODY = 10_000_000  # bytes of the longest upload
CHUNK = 64 * 1024  # bytes of answers that are sent together, at most

app = FastAPI(title="chunk_framing", max_body_size=BODY)


# --8<-- [start:orders]
class Order(BaseModel, strict=True):
    """One order of the shop."""

    id: int = Field(ge=1, le=2**53 - 1)  # JavaScript has no larger exact numbers.
    item: str = Field(min_length=1, max_length=100)
    amount: int = Field(ge=1, le=1000)


JSON = TypeAdapter(dict[str, object])
ITEMS = ("green tea", "crème brûlée", "honey", "jalapeño")


def to_line(value: dict[str, object]) -> bytes:
    """Write an object as one line of NDJSON, in UTF-8."""
    return JSON.dump_json(value) + b"\n"


def orders() -> Iterator[bytes]:
    """Give the shop's orders, a line each; put your database cursor here."""
    for number, item in enumerate(ITEMS, start=1):
        yield to_line({"id": number, "item": item, "amount": number * 2})


# --8<-- [end:orders]
# --8<-- [start:rechunk]
def rechunk(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Cut chunks anew, into chunks of `size` bytes; only the last may be shorter."""
    waiting = bytearray()
    for chunk in chunks:
        waiting += chunk
        while len(waiting) >= size:
            yield bytes(waiting[:size])
            del waiting[:size]  # Python moves the start; it copies nothing.
    if waiting:
        yield bytes(waiting)


class NDJSON(StreamingResponse):
    """A stream of lines, each of them a JSON value."""

    media_type = "application/x-ndjson"


Size = Annotated[int, Query(ge=1, le=1_000_000)]


@app.get("/orders.ndjson", response_class=NDJSON)
async def list_orders(size: Size = CHUNK) -> AsyncIterator[bytes]:
    """Send the orders in chunks of `size` bytes, which end anywhere."""
    for chunk in rechunk(orders(), size):
        yield chunk


# --8<-- [end:rechunk]
# --8<-- [start:lines]
class Line(NamedTuple):
    """One line of a stream, without its line feed."""

    number: int  # 1 is the first
    content: bytes  # of a line that is too long only the first LINE + 1 bytes


class LineReader:
    """Reads lines from chunks that end anywhere; never holds more than one line."""

    def __init__(self) -> None:
        self.count = 0  # lines that are complete
        self.begun = bytearray()  # the line that is not

    def feed(self, chunk: bytes) -> Iterator[Line]:
        """Give the lines that a chunk completes, and keep the one that it begins."""
        *endings, beginning = chunk.split(b"\n")
        for ending in endings:
            yield self.complete(ending)
        self.keep(beginning)

    def complete(self, ending: bytes) -> Line:
        """Give the line that ends so, and begin the next one."""
        if self.begun:
            self.keep(ending)
            ending = bytes(self.begun)
            self.begun.clear()
        self.count += 1
        return Line(self.count, ending[: LINE + 1])

    def keep(self, part: bytes) -> None:
        """Add to the line; one byte too many shows that it is too long."""
        self.begun += part[: LINE + 1 - len(self.begun)]


# --8<-- [end:lines]
# --8<-- [start:answers]
def reason(error: ValidationError) -> str:
    """Say what is wrong with an order, without a word of what was sent."""
    first = error.errors()[0]
    field = "".join(f"{name}: " for name in first["loc"])
    return field + first["msg"].replace("at line 1 column", "at byte")


def answer(line: Line) -> dict[str, object]:
    """Take the order that a line holds, here into your database; or refuse it."""
    if len(line.content) > LINE:
        return {"line": line.number, "error": f"longer than {LINE:,} bytes"}
    try:
        order = Order.model_validate_json(line.content)
    except ValidationError as error:
        return {"line": line.number, "error": reason(error)}
    return {"line": line.number, "taken": order.id}


def answers(lines: Iterable[Line]) -> Iterator[bytes]:
    """Answer each line that is not empty."""
    for line in lines:
        if line.content.strip():
            yield to_line(answer(line))


# --8<-- [end:answers]
# --8<-- [start:upload]
class Duplex(NDJSON):
    """An answer that is sent while the request still arrives."""

    async def listen_for_disconnect(self, _: Receive) -> None:
        """Leave the request to the endpoint, which would miss what is read here."""
        await asyncio.Event().wait()


@app.post("/orders", response_class=Duplex)
async def take_orders(request: Request) -> AsyncIterator[bytes]:
    """Answer the lines that each chunk completes, then say `done`."""
    reader = LineReader()
    try:
        async for chunk in request.stream():
            for ready in rechunk(answers(reader.feed(chunk)), CHUNK):
                yield ready
    except HTTPException as refused:  # The upload is longer than BODY.
        yield to_line({"failed": refused.detail, "status": refused.status_code})
        return
    except ClientDisconnect:
        return
    if reader.begun:
        for ready in answers([reader.complete(b"")]):
            yield ready
    yield to_line({"done": True, "lines": reader.count})


# --8<-- [end:upload]
if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8000)
