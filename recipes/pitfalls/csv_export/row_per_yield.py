"""Wrong: a row a `yield` pays for a thread switch and a chunk with every row."""

import csv
import io
from collections.abc import Iterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from recipes.csv_export import orders

app = FastAPI()


# --8<-- [start:wrong]
def to_csv(rows: int) -> Iterator[str]:
    """Write each row by itself."""
    for order in orders(rows):
        buffer = io.StringIO(newline="")
        csv.writer(buffer).writerow(order)
        yield buffer.getvalue()


# --8<-- [end:wrong]
@app.get("/orders.csv")
def export_orders(rows: int = 1000) -> StreamingResponse:
    """Download the orders."""
    return StreamingResponse(to_csv(rows), media_type="text/csv")
