"""The same table by the ways that tutorials show, and without a framework."""

import csv
import io
from collections.abc import AsyncIterator, Iterator
from urllib.parse import parse_qs

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from recipes.csv_export import Order, orders, to_csv

by_sync_generator = FastAPI()
by_async_generator = FastAPI()


def rows_one_by_one(rows: int) -> Iterator[str]:
    """Write each row by itself, and empty the buffer after it."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(Order._fields)
    yield buffer.getvalue()
    for order in orders(rows):
        buffer.seek(0)
        buffer.truncate(0)
        writer.writerow(order)
        yield buffer.getvalue()


@by_sync_generator.get("/orders.csv")
def export(rows: int) -> StreamingResponse:
    """Starlette takes each row in a thread."""
    return StreamingResponse(rows_one_by_one(rows), media_type="text/csv")


@by_async_generator.get("/orders.csv")
async def export_async(rows: int) -> StreamingResponse:
    """No thread, but still a chunk for each row."""

    async def generate() -> AsyncIterator[str]:
        for row in rows_one_by_one(rows):
            yield row

    return StreamingResponse(generate(), media_type="text/csv")


async def raw(scope: Scope, receive: Receive, send: Send) -> None:
    """Send the recipe's own chunks, with nothing between them and the server."""
    if scope["type"] != "http":
        return
    await receive()
    rows = int(parse_qs(scope["query_string"].decode())["rows"][0])
    headers = [(b"content-type", b"text/csv; charset=utf-8")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for chunk in to_csv(orders(rows), bom=False):
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
