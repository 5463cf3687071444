"""Stream from a source that blocks, with few trips to a thread.

Run it:   uvicorn docs.learn.blocking_in_batches:app
Try it:   curl -N 'http://127.0.0.1:8000/batches?rows=5000'
"""

from collections.abc import AsyncIterator, Iterator
from itertools import islice

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

app = FastAPI(title="blocking_in_batches")

BATCH = 1000  # rows


# --8<-- [start:rows]
def read_orders(rows: int) -> Iterator[str]:
    """Give a line for each row; put your own query here, which blocks at each row."""
    for number in range(1, rows + 1):
        yield f"order {number}\n"


@app.get("/rows")
async def row_by_row(rows: int) -> StreamingResponse:
    """Go to a thread for each row."""
    return StreamingResponse(read_orders(rows), media_type="text/plain")


# --8<-- [end:rows]
# --8<-- [start:batches]
def next_batch(lines: Iterator[str]) -> str:
    """Join the next thousand lines; give an empty text at the end."""
    return "".join(islice(lines, BATCH))


def in_batches(lines: Iterator[str]) -> Iterator[str]:
    """Give the same lines, a thousand at a time."""
    while batch := next_batch(lines):
        yield batch


@app.get("/batches")
async def batch_by_batch(rows: int) -> StreamingResponse:
    """Go to a thread for each thousand rows."""
    lines = in_batches(read_orders(rows))
    return StreamingResponse(lines, media_type="text/plain")


# --8<-- [end:batches]
# --8<-- [start:both]
async def awaited_batches(lines: Iterator[str]) -> AsyncIterator[str]:
    """Give the batches from an async generator, which may await other things too."""
    while batch := await run_in_threadpool(next_batch, lines):
        yield batch


@app.get("/awaited")
async def awaited(rows: int) -> StreamingResponse:
    """Go to a thread for each thousand rows, and to the event loop for the rest."""
    lines = awaited_batches(read_orders(rows))
    return StreamingResponse(lines, media_type="text/plain")


# --8<-- [end:both]
