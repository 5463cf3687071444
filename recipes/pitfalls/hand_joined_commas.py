"""Wrong: cells joined with commas fall apart at the first comma inside a cell."""

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
@app.get("/orders.csv")
def export_orders(rows: int = 1000) -> StreamingResponse:
    """Download the orders."""
    return StreamingResponse(to_csv(rows), media_type="text/csv")
