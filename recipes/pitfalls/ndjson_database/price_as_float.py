"""Wrong: a decimal that is made a float for JSON loses its last digits.

Run it:   uvicorn recipes.pitfalls.ndjson_database.price_as_float:app
Try it:   curl http://127.0.0.1:8000/as-text
          curl http://127.0.0.1:8000/as-float
See it:   "price":1234567890123456.8}
"""

from collections.abc import AsyncIterator
from decimal import Decimal

import orjson
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

app = FastAPI()
ORDER = {"id": 7, "price": Decimal("1234567890123456.78")}


# --8<-- [start:wrong]
@app.get("/as-float", response_class=StreamingResponse)
async def as_float() -> AsyncIterator[bytes]:
    """Help orjson over its TypeError with the first thing that works."""
    yield orjson.dumps(ORDER, default=float, option=orjson.OPT_APPEND_NEWLINE)


# --8<-- [end:wrong]
# --8<-- [start:right]
@app.get("/as-text", response_class=StreamingResponse)
async def as_text() -> AsyncIterator[bytes]:
    """Send every digit; the client makes a decimal of them."""
    yield orjson.dumps(ORDER, default=str, option=orjson.OPT_APPEND_NEWLINE)


# --8<-- [end:right]
