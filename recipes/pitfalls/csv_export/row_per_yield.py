"""Wrong: a row a `yield` pays for a thread switch and a chunk with every row.

Run it:   uvicorn recipes.pitfalls.csv_export.row_per_yield:app
Try it:   curl -sS --raw 'http://127.0.0.1:8000/orders.csv?rows=3'
See it:   3f
"""

# --8<-- [start:wrong]
import csv
import io
from collections.abc import Iterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from recipes.csv_export import orders, take

app = FastAPI()


def to_csv(rows: int) -> Iterator[bytes]:
    """Write each row by itself."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    for order in orders(rows):
        writer.writerow(order)
        yield take(buffer)


@app.get("/orders.csv")
def export_orders(rows: int = 1000) -> StreamingResponse:
    """Download the orders."""
    return StreamingResponse(to_csv(rows), media_type="text/csv")


# --8<-- [end:wrong]
