"""Wrong: an HTTPException inside the generator comes after the 200 has gone out.

Run it:   uvicorn recipes.pitfalls.plain_text.status_after_first_byte:app
Try it:   curl -sS -i http://127.0.0.1:8000/slip/7
See it:   HTTP/1.1 200 OK
"""

# --8<-- [start:wrong]
from collections.abc import AsyncIterator

from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse

app = FastAPI()
ORDERS = {1: "green tea\n"}


async def packing_slip(order_id: int) -> AsyncIterator[str]:
    """Look the order up when the answer has already begun."""
    if order_id not in ORDERS:
        raise HTTPException(404, "There is no such order.")
    yield ORDERS[order_id]


@app.get("/slip/{order_id}")
async def slip(order_id: int) -> StreamingResponse:
    """Stream the slip."""
    return StreamingResponse(packing_slip(order_id), media_type="text/plain")


# --8<-- [end:wrong]
