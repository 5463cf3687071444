"""The client that measures: it asks once, and counts what comes, as it comes.

It reads HTTP/1.1 by itself: `http.client` takes three times as long for small chunks.
"""

import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

SILENCE = 120.0  # seconds without a byte after which a stream counts as dead


class WrongBodyError(Exception):
    """A version sent something else than the others."""


@dataclass(frozen=True)
class Sample:
    """One answer of one version; times in seconds."""

    seconds: float
    first_byte: float | None
    units: int
    bytes: int
    cpu_seconds: float = 0.0
    half: float | None = None  # until half of the events had arrived at their listeners
    most: float | None = None  # until 99 of 100 had
    each: float | None = None  # bytes of memory that a listener added


def dechunk(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Take off the chunked framing (RFC 9112, 7.1), one payload for each piece.

    Raises:
        WrongBodyError: the last chunk never came.
    """
    buffer = b""
    for piece in pieces:
        buffer += piece
        payload: list[bytes] = []
        at = 0
        while (line := buffer.find(b"\r\n", at)) >= 0:
            size = int(buffer[at:line], 16)
            after = line + 2 + size + 2
            if after > len(buffer):
                break
            if size == 0:
                yield b"".join(payload)
                return
            payload.append(buffer[line + 2 : after - 2])
            at = after
        buffer = buffer[at:]
        yield b"".join(payload)
    raise WrongBodyError("the answer was cut short")


def body_of(connection: socket.socket) -> Iterator[bytes]:
    """Read one answer: its body, chunked or up to the close of the connection."""
    pieces = iter(lambda: connection.recv(256 * 1024), b"")
    head = b""
    while b"\r\n\r\n" not in head:
        if not (piece := next(pieces, b"")):
            raise WrongBodyError("no answer")
        head += piece
    head, _, rest = head.partition(b"\r\n\r\n")
    status, _, fields = head.partition(b"\r\n")
    if b" 200" not in status:
        raise WrongBodyError(status.decode("latin-1"))

    def after_the_head() -> Iterator[bytes]:
        yield rest
        yield from pieces

    chunked = b"transfer-encoding: chunked" in fields.lower()
    return dechunk(after_the_head()) if chunked else after_the_head()


def counted(pieces: Iterable[bytes], end: bytes) -> Iterator[tuple[bytes, int]]:
    """Say of each piece how many units end in it."""
    tail = b""
    for piece in pieces:
        # The end of a unit may lie across two pieces: look at the seam too.
        seam = tail + piece
        yield piece, seam.count(end)
        tail = seam[max(len(seam) - len(end) + 1, 0) :]


def fetch(
    port: int, path: str, end: bytes, keep: list[bytes] | None = None, unit: int = 0
) -> Sample:
    """Ask a server once, and count what it sends; `keep` collects the body.

    Units are counted by what ends them, or, if nothing does, by their size: `unit`.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=SILENCE) as connection:
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        began = time.perf_counter()
        connection.sendall(request.encode())
        first_byte: float | None = None
        units = size = 0
        pieces = body_of(connection)
        for data, ended in counted(pieces, end) if end else ((p, 0) for p in pieces):
            if data and first_byte is None:
                first_byte = time.perf_counter() - began
            size += len(data)
            units += ended
            if keep is not None:
                keep.append(data)
        if unit:
            units = size // unit
        return Sample(time.perf_counter() - began, first_byte, units, size)
