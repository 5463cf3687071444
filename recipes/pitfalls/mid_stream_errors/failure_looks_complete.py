"""Wrong: the failure is logged and the stream ends, so that it looks complete.

Run it:   uvicorn recipes.pitfalls.mid_stream_errors.failure_looks_complete:app
Try it:   curl -N -sS -w "exit code %{exitcode}" http://127.0.0.1:8000/told-orders
          curl -N -sS -w "exit code %{exitcode}" http://127.0.0.1:8000/orders
See it:   exit code 0
"""

# --8<-- [start:program]
import logging
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI

app = FastAPI()
log = logging.getLogger("uvicorn.error")


async def read_orders() -> AsyncIterator[int]:
    """Read the orders; the database fails after the third."""
    for number in (1, 2, 3):
        yield number
    raise ConnectionError


# --8<-- [end:program]
# --8<-- [start:wrong]
@app.get("/orders")
async def orders() -> AsyncIterator[dict[str, Any]]:
    """Send a line for each order."""
    try:
        async for number in read_orders():
            yield {"id": number}
    except ConnectionError:
        log.exception("The orders are not complete")


# --8<-- [end:wrong]
# --8<-- [start:right]
@app.get("/told-orders")
async def told_orders() -> AsyncIterator[dict[str, Any]]:
    """Send a line for each order, and a last one that says how it ended."""
    complete = False
    try:
        async for number in read_orders():
            yield {"id": number}
        complete = True
    except ConnectionError:
        log.exception("The orders are not complete")
    yield {"complete": complete}


# --8<-- [end:right]
