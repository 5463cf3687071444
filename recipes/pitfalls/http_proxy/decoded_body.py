"""Wrong: the bytes are unpacked on the way, and the header still says gzip.

Run it:   uvicorn recipes.pitfalls.http_proxy.decoded_body:app
Try it:   curl -sS --compressed http://127.0.0.1:8000/orders
See it:   curl: (61)
"""

# --8<-- [start:wrong]
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from fastapi import FastAPI, Request
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import StreamingResponse

shop = FastAPI()  # the service that is passed on
shop.add_middleware(GZipMiddleware)


@shop.get("/orders", response_class=StreamingResponse)
def orders() -> Iterator[str]:
    """List many orders."""
    for number in range(1000):
        yield f"order {number}: green tea\n"


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """Keep one client."""
    transport = httpx2.ASGITransport(shop)
    async with httpx2.AsyncClient(
        transport=transport, base_url="http://shop"
    ) as client:
        yield {"client": client}


app = FastAPI(lifespan=lifespan)


@app.get("/orders")
async def pass_on(request: Request) -> StreamingResponse:
    """Copy every header, and send what `aiter_bytes` gives."""
    client = request.state.client
    response = await client.send(client.build_request("GET", "/orders"), stream=True)
    return StreamingResponse(response.aiter_bytes(), headers=response.headers)


# --8<-- [end:wrong]
