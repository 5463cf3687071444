"""Wrong: the response reads the request too, and takes what the endpoint waits for.

Run it:   uvicorn recipes.pitfalls.chunk_framing.request_read_twice:app
Try it:   curl -sS -i --max-time 2 -d '{"id":1}' http://127.0.0.1:8000/orders
See it:   with 0 bytes received
"""

# --8<-- [start:wrong]
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

app = FastAPI()


@app.post("/orders", response_class=StreamingResponse)
async def take_orders(request: Request) -> AsyncIterator[bytes]:
    """Answer each chunk of the request."""
    async for chunk in request.stream():
        yield b"%d bytes\n" % len(chunk)


# --8<-- [end:wrong]
