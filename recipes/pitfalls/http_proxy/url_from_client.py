"""Wrong: whoever may choose the address reads what only this machine can reach.

Run it:   uvicorn recipes.pitfalls.http_proxy.url_from_client:app
Try it:   curl -sS 'http://127.0.0.1:8000/fetch?url=http://127.0.0.1:8000/internal/keys'
See it:   sk-live-4711
"""

# --8<-- [start:wrong]
from collections.abc import AsyncIterator

import httpx2
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

app = FastAPI()


@app.get("/internal/keys")
def keys() -> dict[str, str]:
    """Stand for a service inside: a database, a queue, the cloud's metadata."""
    return {"payment_key": "sk-live-4711"}


@app.get("/fetch", response_class=StreamingResponse)
async def fetch(url: str) -> AsyncIterator[bytes]:
    """Pass on what is at the address that the client names."""
    async with httpx2.AsyncClient() as client, client.stream("GET", url) as response:
        async for chunk in response.aiter_raw():
            yield chunk


# --8<-- [end:wrong]
