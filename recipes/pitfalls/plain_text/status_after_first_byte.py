"""Wrong: an HTTPException inside the generator comes after the 200 has gone out."""

from collections.abc import AsyncIterator

from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse

app = FastAPI()
ORDERS = {1: "green tea\n"}


# --8<-- [start:wrong]
async def packing_slip(order_id: int) -> AsyncIterator[str]:
    """Look the order up where the answer has begun already."""
    if order_id not in ORDERS:
        raise HTTPException(404, "There is no such order.")
    yield ORDERS[order_id]


# --8<-- [end:wrong]
@app.get("/slip/{order_id}")
async def slip(order_id: int) -> StreamingResponse:
    """Stream the slip."""
    return StreamingResponse(packing_slip(order_id), media_type="text/plain")
