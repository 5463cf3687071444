"""Wrong: an HTTPException in the generator comes after the 200 has gone out.

Run it:   uvicorn recipes.pitfalls.mid_stream_errors.http_exception_in_generator:app
Try it:   curl -N -sS -i http://127.0.0.1:8000/checked/zoe
          curl -N -sS -i http://127.0.0.1:8000/events/zoe
See it:   HTTP/1.1 200 OK
"""

# --8<-- [start:program]
from collections.abc import AsyncIterator

from fastapi import Depends, FastAPI, HTTPException
from fastapi.sse import EventSourceResponse

app = FastAPI()
ORDERS = {"ada": ["green tea", "honey"]}


# --8<-- [end:program]
# --8<-- [start:wrong]
@app.get("/events/{customer}", response_class=EventSourceResponse)
async def feed(customer: str) -> AsyncIterator[str]:
    """Look the customer up when the answer has begun."""
    if customer not in ORDERS:
        raise HTTPException(404, "There is no such customer.")
    for item in ORDERS[customer]:
        yield item


# --8<-- [end:wrong]
# --8<-- [start:right]
async def known(customer: str) -> None:
    """Look the customer up before the answer begins."""
    if customer not in ORDERS:
        raise HTTPException(404, "There is no such customer.")


KNOWN = [Depends(known)]


@app.get("/checked/{customer}", response_class=EventSourceResponse, dependencies=KNOWN)
async def checked_feed(customer: str) -> AsyncIterator[str]:
    """Send what there is; the dependency has refused all others."""
    for item in ORDERS[customer]:
        yield item


# --8<-- [end:right]
