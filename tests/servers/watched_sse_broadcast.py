"""The recipe sse_broadcast, which tells nothing by itself and can be counted.

`GET /counts` gives the listeners that wait, the tasks that run, and the process's
memory in bytes. The garbage collector is off. `PADDING` makes events larger, so that a
client that does not read is behind soon.
"""

import asyncio
import gc
import json
import os

import psutil
from starlette.types import Receive, Scope, Send

from recipes import sse_broadcast
from recipes.sse_broadcast import Feed, frame

gc.disable()
feeds: list[Feed] = []
padding = ":" + "x" * int(os.environ.get("PADDING", "0")) + "\n"


class Watched(Feed):
    """A feed that can be found."""

    def __init__(self) -> None:
        super().__init__()
        feeds.append(self)


def padded(event: str, data: str) -> bytes:
    """Write an event with a long comment before it."""
    return padding.encode() + frame(event, data)


sse_broadcast.Feed = Watched  # type: ignore[misc]
if "SHOP" not in os.environ:
    sse_broadcast.PAUSE = 24 * 3600  # seconds: the shop is closed
if "PADDING" in os.environ:
    sse_broadcast.frame = padded


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the recipe, and the counts."""
    if scope["type"] == "http" and scope["path"] == "/counts":
        counts = {
            "asleep": len(feeds[-1].asleep),
            "tasks": len(asyncio.all_tasks()),
            "memory": psutil.Process().memory_info().rss,
        }
        body = json.dumps(counts).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        return
    await sse_broadcast.app(scope, receive, send)
