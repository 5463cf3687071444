"""Wrong: what a customer typed is run as a formula on the accountant's machine."""

import csv
import io
from collections.abc import Iterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from recipes.csv_export import orders

app = FastAPI()


# --8<-- [start:wrong]
def to_csv(rows: int) -> Iterator[str]:
    """Quote every cell as the RFC says, and trust what it holds."""
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows(orders(rows))
    yield buffer.getvalue()


# --8<-- [end:wrong]
@app.get("/orders.csv")
def export_orders(rows: int = 1000) -> StreamingResponse:
    """Download the orders."""
    return StreamingResponse(to_csv(rows), media_type="text/csv")
