"""Wrong: cells joined with commas fall apart at the first comma inside a cell."""

import csv
import io
from collections.abc import Iterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from recipes.csv_export import orders

app = FastAPI()


# --8<-- [start:wrong]
def to_csv(rows: int) -> Iterator[str]:
    """Join the cells by hand."""
    for order in orders(rows):
        yield ",".join(str(cell) for cell in order) + "\n"


# --8<-- [end:wrong]
# --8<-- [start:right]
def to_quoted_csv(rows: int) -> Iterator[str]:
    """Let the writer quote what has to be quoted."""
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows(orders(rows))
    yield buffer.getvalue()


# --8<-- [end:right]
@app.get("/orders.csv")
def export_orders(rows: int = 1000) -> StreamingResponse:
    """Download the orders."""
    return StreamingResponse(to_csv(rows), media_type="text/csv")


@app.get("/quoted.csv")
def export_quoted_orders(rows: int = 1000) -> StreamingResponse:
    """Download the orders, quoted."""
    return StreamingResponse(to_quoted_csv(rows), media_type="text/csv")
