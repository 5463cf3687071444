"""Wrong: what a customer typed is run as a formula on the accountant's machine.

Run it:   uvicorn recipes.pitfalls.csv_export.formula_cells:app
Try it:   curl -sS 'http://127.0.0.1:8000/orders.csv?rows=4'
See it:   "=HYPERLINK(""http://evil.example"")"
"""

# --8<-- [start:wrong]
import csv
import io
from collections.abc import Iterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from recipes.csv_export import CHUNK, orders, take

app = FastAPI()


def to_csv(rows: int) -> Iterator[bytes]:
    """Quote every cell as the RFC says, and trust what it holds."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    for order in orders(rows):
        writer.writerow(order)
        if buffer.tell() >= CHUNK:
            yield take(buffer)
    yield take(buffer)


@app.get("/orders.csv")
def export_orders(rows: int = 1000) -> StreamingResponse:
    """Download the orders."""
    return StreamingResponse(to_csv(rows), media_type="text/csv")


# --8<-- [end:wrong]
