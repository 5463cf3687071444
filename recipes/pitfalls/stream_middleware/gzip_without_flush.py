"""Wrong: a middleware compresses and never flushes, so all arrives at the end.

Run it:   uvicorn recipes.pitfalls.stream_middleware.gzip_without_flush:app
Try it:   curl -N -o /dev/null --max-time 1.5 http://127.0.0.1:8000/orders
See it:   with 10 bytes received
"""

# --8<-- [start:program]
import asyncio
import zlib
from collections.abc import AsyncIterator

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

app = FastAPI()


@app.get("/orders")
async def orders() -> AsyncIterator[dict[str, int]]:
    """Send five orders, one each half second."""
    for number in range(1, 6):
        yield {"id": number}
        await asyncio.sleep(0.5)


# --8<-- [end:program]
# --8<-- [start:wrong]
class Gzip:
    """Compresses every body, for a client that always understands gzip."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Compress each chunk."""
        packer = zlib.compressobj(6, zlib.DEFLATED, 16 + zlib.MAX_WBITS)

        async def send_packed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Encoding"] = "gzip"
                del headers["Content-Length"]
            elif message["type"] == "http.response.body":
                body = packer.compress(message.get("body", b""))
                if not message.get("more_body"):
                    body += packer.flush()
                message = {**message, "body": body}
            await send(message)

        await self.app(scope, receive, send_packed)


app.add_middleware(Gzip)
# --8<-- [end:wrong]
