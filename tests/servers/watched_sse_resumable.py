"""The recipe sse_resumable in a hurry; it tells which process answers.

`cutting` serves it over connections that break, as a bad network does.
"""

import os
import sys

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recipes import sse_resumable

sse_resumable.PAUSE = 0.02
sse_resumable.RETRY = range(100, 101)
CUT_AFTER = 3  # chunks of a connection that breaks


def tell(scope: Scope) -> None:
    """Write down what is asked for, and which id was sent along."""
    seen = dict(scope["headers"]).get(b"last-event-id", b"none")
    sys.stdout.write(f"asked for {scope['path']} after {seen.decode('latin-1')}\n")
    sys.stdout.flush()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the recipe; the header `x-process` holds the number of the process."""

    async def named(message: Message) -> None:
        if message["type"] == "http.response.start":
            process = str(os.getpid()).encode()
            message["headers"] = [*message["headers"], (b"x-process", process)]
        await send(message)

    if scope["type"] == "http":
        tell(scope)
    try:
        await sse_resumable.app(scope, receive, named)
    finally:
        if scope["type"] == "http":
            sys.stdout.write(f"over {scope['path']}\n")
            sys.stdout.flush()


def cutting() -> ASGIApp:
    """Begin with a 503, then break every other connection to the feed.

    With the query `whole` a connection is left alone.
    """
    asked = 0

    async def cut(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal asked
        is_feed = scope["type"] == "http" and scope["path"] == "/events"
        if not is_feed or scope["query_string"] == b"whole":
            await app(scope, receive, send)
            return
        asked += 1
        if asked == 1:
            head = {"type": "http.response.start", "status": 503, "headers": []}
            await send(head)
            await send({"type": "http.response.body"})
            return
        sent = 0

        async def counted(message: Message) -> None:
            nonlocal sent
            if asked % 2 == 0 and sent == CUT_AFTER + 1:
                raise ConnectionError("a bad network")
            sent += 1
            await send(message)

        await app(scope, receive, counted)

    return cut


def resetting() -> ASGIApp:
    """Answer with one event after the other, of which the second is a reset."""
    bodies = [
        b"retry: 10\n\nid: a-1\ndata: one\n\n",
        b"event: reset\ndata: {}\nid: \n\n",
        b"id: b-1\ndata: one\n\n",
    ]

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/events":
            await app(scope, receive, send)
            return
        tell(scope)
        status = 200 if bodies else 204
        kind = (b"content-type", b"text/event-stream")
        head = {"type": "http.response.start", "status": status, "headers": [kind]}
        await send(head)
        body = bodies.pop(0) if bodies else b""
        await send({"type": "http.response.body", "body": body})

    return answer
