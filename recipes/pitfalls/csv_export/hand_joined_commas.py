"""Wrong: cells joined with commas fall apart at the first comma inside a cell.

Run it:   uvicorn recipes.pitfalls.csv_export.hand_joined_commas:app
Try it:   curl -sS 'http://127.0.0.1:8000/orders.csv?rows=2'
See it:   Zoë,tea pot, 12" wide,2,24.99
"""

# --8<-- [start:wrong]
import csv
import io
from collections.abc import Iterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from recipes.csv_export import CHUNK, orders, take

app = FastAPI()


def to_csv(rows: int) -> Iterator[str]:
    """Join the cells by hand."""
    for order in orders(rows):
        yield ",".join(str(cell) for cell in order) + "\n"


@app.get("/orders.csv")
def export_orders(rows: int = 1000) -> StreamingResponse:
    """Download the orders."""
    return StreamingResponse(to_csv(rows), media_type="text/csv")


# --8<-- [end:wrong]
# --8<-- [start:right]
def to_quoted_csv(rows: int) -> Iterator[bytes]:
    """Let the writer quote what has to be quoted, and empty its buffer on the way."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    for order in orders(rows):
        writer.writerow(order)
        if buffer.tell() >= CHUNK:
            yield take(buffer)
    yield take(buffer)


@app.get("/quoted.csv")
def export_quoted_orders(rows: int = 1000) -> StreamingResponse:
    """Download the orders, quoted."""
    return StreamingResponse(to_quoted_csv(rows), media_type="text/csv")


# --8<-- [end:right]
