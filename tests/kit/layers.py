"""Follow one stream from its generator to its client, and record each layer.

python -m tests.kit.layers     writes docs/learn/what_streaming_is.txt

The recipe plain_text runs under a real uvicorn. Its pauses are not spent in time: the
generator goes on when the client has read all that was sent so far. So the record is
the same each time, and it can be made only if nothing between the two waits for more.
"""

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING
from unittest import mock
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cookbook.background import serving
from cookbook.catalog import ROOT
from recipes import plain_text
from tests.kit.servers import WAIT

if TYPE_CHECKING:
    from playwright.sync_api import Page

RECORD = ROOT / "docs/learn/what_streaming_is.txt"
CLIENT = ROOT / "docs/learn/read_with_fetch.js"
TARGET = "/async/1"
PAUSES = 3  # of the recipe's generator: one before each item
REQUEST = f"GET {TARGET} HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\r\n"


class Followed:
    """What the layers of one stream did, in the order in which it happened."""

    def __init__(self) -> None:
        self.journal: list[tuple[str, str]] = []  # layer, what it did
        self.yielded: list[str] = []
        self.messages: list[Message] = []
        self.head = threading.Event()  # The client has read the head.
        self.gate = threading.Semaphore(0)
        self.done = threading.Event()  # The application has returned.
        self.reads = 0

    def note(self, layer: str, text: str) -> None:
        """Add a line to the journal."""
        self.journal.append((layer, text))

    async def pause(self, _: float) -> None:
        """Wait, in place of the recipe's pause, until the client has read."""
        if not await asyncio.to_thread(self.gate.acquire, timeout=WAIT):
            raise TimeoutError("the client has not read what was sent")

    async def lines(self, order: plain_text.Order) -> AsyncIterator[str]:
        """Give what the recipe's generator gives, after the head, and note it."""
        if not await asyncio.to_thread(self.head.wait, WAIT):
            raise TimeoutError("the client has not read the head")
        async for line in self.original(order):
            self.yielded.append(line)
            self.note("generator", f"yields {line!r}")
            yield line

    def read_one(self) -> None:
        """Let the generator go on: the client has read a piece.

        After the last pause the client waits until the application has returned, so
        that what is made without a pause is always there at once.
        """
        self.reads += 1
        self.gate.release()
        if self.reads == PAUSES:
            assert self.done.wait(WAIT), "the application has not returned"

    def application(self, app: ASGIApp) -> ASGIApp:
        """Note each message that an application sends."""

        async def noted(scope: Scope, receive: Receive, send: Send) -> None:
            async def sent(message: Message) -> None:
                self.messages.append(message)
                self.note("ASGI", shown(message))
                await send(message)

            if scope["type"] != "http" or scope["path"] != TARGET:
                await app(scope, receive, send)
                return
            await app(scope, receive, sent)
            self.done.set()

        return noted

    @contextmanager
    def served(self, app: ASGIApp) -> Iterator[str]:
        """Serve it, with the pauses of this record; give the address."""
        self.original = plain_text.packing_slip_async
        with (
            mock.patch.object(plain_text, "packing_slip_async", self.lines),
            mock.patch.object(plain_text, "asyncio", SimpleNamespace(sleep=self.pause)),
            serving(self.application(app)) as url,
        ):
            yield url


class Wire:
    """The bytes of an HTTP/1.1 response, kept as they were read."""

    def __init__(self, connection: socket.socket) -> None:
        self.stream = connection.makefile("rb")
        self.raw = b""

    def line(self) -> bytes:
        """Read a line; EOFError if the connection has ended."""
        line = self.stream.readline()
        if not line:
            raise EOFError(f"the stream was cut off after {self.raw!r}")
        self.raw += line
        return line

    def head(self) -> None:
        """Read the status and the header fields, with the empty line that ends them."""
        while self.line() != b"\r\n":
            pass

    def chunk(self) -> int:
        """Read one chunk (RFC 9112, 7.1); give its size, which is 0 for the last."""
        size = int(self.line(), 16)
        self.raw += self.stream.read(size)
        assert self.line() == b"\r\n"
        return size


def shown(message: Message) -> str:
    """Say what an ASGI message carries, in a few words."""
    if message["type"] == "http.response.start":
        return f"http.response.start, status {message['status']}"
    more = message.get("more_body", False)
    return f"http.response.body, {len(message['body'])} bytes, more_body={more}"


def by_socket(app: ASGIApp = plain_text.app) -> tuple[Followed, bytes]:
    """Read the stream from a socket; give the record, and the bytes as they came."""
    followed = Followed()
    with followed.served(app) as url:
        address = urlsplit(url)
        with socket.create_connection(("127.0.0.1", address.port or 0), WAIT) as wire:
            wire.sendall(REQUEST.encode())
            answer = Wire(wire)
            answer.head()
            followed.note("client", "reads the status and the header fields")
            followed.head.set()
            while True:
                size = answer.chunk()
                text = f"a chunk of {size} bytes" if size else "the last chunk"
                followed.note("client", f"reads {text}")
                if not size:
                    return followed, answer.raw
                followed.read_one()


def by_fetch(page: "Page") -> tuple[Followed, list[bytes]]:
    """Read the stream in a browser; give the record, and each read."""
    followed = Followed()
    followed.head.set()  # A page is not told when its browser reads the head.
    reads: list[bytes] = []

    def got(piece: list[int]) -> None:
        reads.append(bytes(piece))
        followed.note("fetch", f"reads {len(piece)} bytes")
        followed.read_one()

    with followed.served(plain_text.app) as url:
        page.goto(f"{url}/openapi.json")
        page.expose_function("got", got)
        source = json.dumps(CLIENT.read_text("utf-8"))
        page.evaluate(
            f"""async () => {{
              const blob = new Blob([{source}], {{ type: "text/javascript" }});
              const {{ read }} = await import(URL.createObjectURL(blob));
              await read("{TARGET}", (bytes) => window.got([...bytes]));
            }}"""
        )
    return followed, reads


def on_the_wire(raw: bytes) -> str:
    """Show the bytes, a line for each, with the line ends that count."""
    lines = []
    for line in raw.decode().split("\r\n")[:-1]:
        name, colon, _ = line.partition(": ")
        value = f"{name}: …" if colon and name == "date" else line
        lines.append(value.replace("\n", "\\n") + "\\r\\n\n")
    return "".join(lines)


def asgi(messages: list[Message]) -> str:
    """Show the messages as Python writes them, a line for each."""
    return "".join(f"{message}\n" for message in messages)


def fetched(reads: list[bytes]) -> str:
    """Show each read: its size, its first bytes, and its text.

    What comes after the last pause may be read in one go or in several.
    """
    together = [*reads[:PAUSES], b"".join(reads[PAUSES:])]
    lines = []
    for read in together:
        numbers = ", ".join(str(byte) for byte in read[:5])
        lines.append(f"{len(read)} bytes: {numbers}, …  {json.dumps(read.decode())}\n")
    return "".join(lines)


def record(page: "Page") -> dict[str, str]:
    """Follow the stream twice; give the text of each section."""
    followed, raw = by_socket()
    _, reads = by_fetch(page)
    width = max(len(layer) for layer, _ in followed.journal)
    journal = [f"{layer:{width}}  {text}\n" for layer, text in followed.journal]
    return {
        "generator": "".join(f"{line!r}\n" for line in followed.yielded),
        "asgi": asgi(followed.messages),
        "request": on_the_wire(REQUEST.encode()),
        "socket": on_the_wire(raw),
        "fetch": fetched(reads),
        "journal": "".join(journal),
    }


def sections(parts: dict[str, str]) -> str:
    """Write sections that a page includes."""
    return "".join(
        f"--8<-- [start:{name}]\n{text}--8<-- [end:{name}]\n"
        for name, text in parts.items()
    )


def main(path: Path = RECORD) -> None:
    """Write the record."""
    from tests.kit import browser

    with browser.chromium() as running, browser.new_page(running, []) as page:
        path.write_text(sections(record(page)), "utf-8")


if __name__ == "__main__":
    main()
