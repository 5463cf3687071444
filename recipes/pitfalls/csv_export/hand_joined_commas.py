"""Wrong: cells joined with commas fall apart at the first comma inside a cell.

Run it:   uvicorn recipes.pitfalls.csv_export.hand_joined_commas:app
Try it:   curl -N -sS 'http://127.0.0.1:8000/orders.csv?rows=2'
See it:   Zoë,tea pot, 12" wide,2,24.99
"""

# --8<-- [start:wrong]
from collections.abc import Iterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from recipes.csv_export import orders

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
