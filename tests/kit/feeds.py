"""Count the bytes of the same feed in four formats, at the socket.

python -m tests.kit.feeds     writes docs/learn/feeds.txt
"""

import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple
from unittest import mock
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse
from starlette.types import Receive, Scope, Send

from cookbook.background import serving
from cookbook.catalog import ROOT
from docs.learn import feed_sse, feed_websocket
from docs.learn.feed_sse import Change, changes
from tests.kit import docs, formats
from tests.kit.layers import Wire, on_the_wire, sections
from tests.kit.servers import WAIT

RECORD = ROOT / "docs/learn/feeds.txt"
# The example of RFC 6455, 1.3, so that the answer is the same each time.
HANDSHAKE = (
    "GET /feed HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Version: 13\r\n\r\n"
)
FIRST = Change(id=1, order=7, state="placed").model_dump_json()

plain = FastAPI()


@plain.get("/text")
async def text() -> StreamingResponse:
    """Send each change as plain chunks; nothing says where one ends."""

    async def chunks() -> AsyncIterator[str]:
        async for change in changes(0):
            yield change.model_dump_json()

    return StreamingResponse(chunks(), media_type="text/plain")


@plain.get("/ndjson")
async def ndjson() -> AsyncIterator[Change]:
    """Send each change as a line of JSON."""
    async for change in changes(0):
        yield change


@plain.get("/data", response_class=EventSourceResponse)
async def data() -> AsyncIterator[Change]:
    """Send each change as an event that has data and nothing else."""
    async for change in changes(0):
        yield change


async def both(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve both feeds of the page at one address, and the plain ones beside them."""
    if scope["type"] == "websocket":
        await feed_websocket.app(scope, receive, send)
    elif scope["type"] == "http" and scope["path"] != "/feed":
        await plain(scope, receive, send)
    else:
        await feed_sse.app(scope, receive, send)


@contextmanager
def served() -> Iterator[str]:
    """Serve all feeds without their pauses; give the address."""
    with ExitStack() as stack:
        for module in (feed_sse, feed_websocket):
            stack.enter_context(mock.patch.object(module, "PAUSE", 0))
        yield stack.enter_context(serving(both))


class Framed(NamedTuple):
    """One event on the wire."""

    payload: bytes  # what the format makes of it
    wire: int  # bytes at the socket, with the framing of HTTP or WebSocket


def by_http(url: str, path: str) -> tuple[bytes, list[Framed]]:
    """Read a feed; give the raw answer, and each of its chunks."""
    address = urlsplit(url)
    with socket.create_connection(("127.0.0.1", address.port or 0), WAIT) as wire:
        wire.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        answer = Wire(wire)
        answer.head()
        events: list[Framed] = []
        while True:
            before = len(answer.raw)
            size = answer.chunk()
            if not size:
                return answer.raw, events
            chunk = answer.raw[before:].split(b"\r\n", 1)[1][:size]
            events.append(Framed(chunk, len(answer.raw) - before))


class Talk(NamedTuple):
    """What a server has said over a WebSocket."""

    head: bytes
    frames: list[bytes]  # each with its own head


def by_websocket(url: str, more: str = "") -> Talk:
    """Read the feed as RFC 6455 says; `more` are header fields of the request."""
    address = urlsplit(url)
    with socket.create_connection(("127.0.0.1", address.port or 0), WAIT) as wire:
        asked = HANDSHAKE.removesuffix("\r\n") + more + "\r\n"
        wire.sendall(asked.encode())
        answer = Wire(wire)
        answer.head()
        frames: list[bytes] = []
        while not frames or frames[-1][0] & 0x0F != 8:  # 8 closes (section 5.2)
            head = answer.stream.read(2)
            assert head[1] < 126, "no longer head is needed here"
            frames.append(head + answer.stream.read(head[1]))
        # A client masks what it sends; with zeros, it stays as it is (section 5.3).
        wire.sendall(frames[-1][:1] + b"\x82\0\0\0\0" + frames[-1][2:4])
        return Talk(answer.raw, frames)


def shown(frame: bytes) -> str:
    """Show a frame of a WebSocket: its two bytes in front, and what it carries."""
    name = {1: "text", 8: "close"}[frame[0] & 0x0F]
    carried = frame[2:].decode() if name == "text" else frame[2:].hex(" ")
    return f"{frame[:2].hex(' ')}  {carried}\n"


def table(url: str) -> str:
    """Say how many bytes the first change needs in each format."""
    rows = []
    for name, path in {
        "plain chunks": "/text",
        "NDJSON": "/ndjson",
        "SSE, `data` alone": "/data",
        "SSE with `event` and `id`": "/feed",
    }.items():
        first = by_http(url, path)[1][0]
        format_bytes = len(first.payload) - len(FIRST)
        frame_bytes = first.wire - len(first.payload)
        rows.append([name, str(format_bytes), str(frame_bytes), str(first.wire)])
    frame = by_websocket(url).frames[0]
    rows.append(["WebSocket", "0", str(len(frame) - len(FIRST)), str(len(frame))])
    head = ["", "the format adds", "HTTP/1.1 or WebSocket adds", "bytes on the wire"]
    return docs.table(head, rows)


def record() -> str:
    """Read every feed, and write what the page shows."""
    with served() as url:
        raw, _ = by_http(url, "/feed")
        talk = by_websocket(url)
        return sections(
            {
                "change": f"{FIRST}\n",
                "sse": re.sub(
                    r"(?m)^date: .*(?=\\r\\n$)", "date: …", formats.shown(raw)
                ),
                "handshake": on_the_wire(HANDSHAKE.encode()),
                "accepted": on_the_wire(talk.head),
                "frames": "".join(shown(frame) for frame in talk.frames),
                "bytes": table(url),
            }
        )


def main(path: Path = RECORD) -> None:
    """Write the record."""
    path.write_text(record(), "utf-8")


if __name__ == "__main__":
    main()
