"""Wrong: behind `@app.middleware("http")` a stream that failed looks complete.

Run it:   uvicorn recipes.pitfalls.stream_middleware.failure_behind_middleware:app
Try it:   curl -N -v http://127.0.0.1:8000/orders
See it:   left intact
"""

# --8<-- [start:program]
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request, Response
from starlette.middleware.base import RequestResponseEndpoint

app = FastAPI()


@app.get("/orders")
async def orders() -> AsyncIterator[dict[str, int]]:
    """Send three of six orders, and fail."""
    for number in range(1, 4):
        yield {"id": number}
    raise ValueError("Order 4 cannot be read")


# --8<-- [end:program]
# --8<-- [start:wrong]
@app.middleware("http")
async def add_id(request: Request, call_next: RequestResponseEndpoint) -> Response:
    """Give the response an id."""
    response = await call_next(request)
    response.headers["X-Request-ID"] = "1"
    return response


# --8<-- [end:wrong]
