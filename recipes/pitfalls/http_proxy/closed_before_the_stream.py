"""Wrong: the block ends with `return`, and closes the response that is to be sent.

Run it:   uvicorn recipes.pitfalls.http_proxy.closed_before_the_stream:app
Try it:   curl -sS -i http://127.0.0.1:8000/orders
See it:   curl: (18)
"""

# --8<-- [start:wrong]
import httpx2
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

shop = FastAPI()  # the service that is passed on


@shop.get("/orders")
def orders() -> list[str]:
    """List the orders."""
    return ["green tea", "honey"]


app = FastAPI()


@app.get("/orders")
async def pass_on() -> StreamingResponse:
    """Return the response from inside the block that holds it open."""
    transport = httpx2.ASGITransport(shop)
    async with (
        httpx2.AsyncClient(transport=transport) as client,
        client.stream("GET", "http://shop/orders") as response,
    ):
        return StreamingResponse(response.aiter_raw(), response.status_code)


# --8<-- [end:wrong]
