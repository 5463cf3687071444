"""A provider that costs as little as it can, in OpenAI's format.

The model of a request is how many tokens it gets, at once. With a path that begins
with a number of milliseconds, `/20/v1/…`, it waits so long before each and writes into
it when that was; `/closed` tells when the last client left. Times are those of the
monotonic clock, in nanoseconds, which all processes of a machine share.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs

from starlette.types import Receive, Scope, Send

Put = Callable[[bytes], Awaitable[None]]

left = 0  # when the last client left


def chunk(delta: dict[str, str], reason: str | None = None) -> bytes:
    """Write one chunk of an answer."""
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    data = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": "bench",
        "choices": [choice],
    }
    return f"data: {json.dumps(data)}\n\n".encode()


def token(text: str) -> bytes:
    """Write the chunk of one token."""
    return chunk({"content": text})


BEFORE, _, AFTER = token("@").partition(b"@")


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a POST of the SDK, or a GET with `?tokens=`."""
    if scope["type"] != "http":
        return
    body = (await receive()).get("body", b"")
    tokens = int(
        json.loads(body)["model"]
        if body
        else parse_qs(scope["query_string"].decode()).get("tokens", ["0"])[0]
    )
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})

    async def put(data: bytes) -> None:
        await send({"type": "http.response.body", "body": data, "more_body": True})

    first = scope["path"].split("/")[1]
    if first == "closed":
        await put(str(left).encode())
    else:
        await put(chunk({"role": "assistant", "content": ""}))
        if first.isdigit():
            await paced(int(first) / 1000, tokens, receive, put)
        else:
            for number in range(tokens):
                await put(BEFORE + b"t%d" % number + AFTER)
        await put(chunk({}, "stop") + b"data: [DONE]\n\n")
    await send({"type": "http.response.body", "body": b""})


async def paced(pause: float, tokens: int, receive: Receive, put: Put) -> None:
    """Write a token after each pause, as long as the client stays."""
    global left
    gone = asyncio.ensure_future(receive())
    for _ in range(tokens):
        await asyncio.wait([gone], timeout=pause)
        if gone.done():
            left = time.monotonic_ns()
            return
        await put(token(f"t{time.monotonic_ns()}"))
    gone.cancel()
