"""What the scripted provider does to the bytes of an answer, and to its connection."""

import asyncio
import json
import re
import socket
import struct
import zlib
from collections.abc import Iterator
from functools import lru_cache

LINE_ENDS = {"lf": "\n", "crlf": "\r\n"}
CUTS = {
    "byte": rb"(?s)(?<=.)",
    "cr": rb"(?<=\r)",
    # After the first byte of a character that has several (RFC 3629, section 4).
    "character": rb"(?<=[\xc2-\xf4])",
}


def cut(data: bytes, how: str) -> list[bytes]:
    """Cut bytes into chunks, at the places that `how` names, if any."""
    if not how:
        return [data]
    pieces = re.split(CUTS[how], data)
    return [piece for piece in pieces if piece]


def half(data: bytes) -> bytes:
    """Give the first half."""
    return data[: len(data) // 2]


def reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection in a way that the client sees as an error."""
    # Closed with a linger of zero seconds, a socket sends RST in place of FIN.
    linger = struct.pack("ii", 1, 0)
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


def name_of(data: str, otherwise: str) -> str:
    """Name an event of any data as a vendor would: by its type, if it has one."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return otherwise
    if isinstance(value, dict) and isinstance(value.get("type"), str):
        return str(value["type"])
    return otherwise


BLOCK = b"x" * 2**20


def long_line(size: int) -> Iterator[bytes]:
    """Give the data of an event that is so many bytes long, and no end of it."""
    yield b"data: "
    while size > 0:
        yield BLOCK[:size]
        size -= len(BLOCK)


def endless_line() -> Iterator[bytes]:
    """Give a line that never ends."""
    yield b"data: "
    while True:
        yield BLOCK


class Gzip:
    """Packs a body part by part (RFC 1952); what is packed often is packed once."""

    HEAD = b"\x1f\x8b\x08" + bytes(6) + b"\xff"
    LAST_BLOCK = b"\x03\x00"  # an empty one, which says that it is the last

    def __init__(self) -> None:
        self.sum = 0
        self.size = 0

    def part(self, data: bytes) -> bytes:
        """Pack a part."""
        packed = deflated(data)
        if self.size == 0:
            packed = self.HEAD + packed
        self.sum = zlib.crc32(data, self.sum)
        self.size += len(data)
        return packed

    def end(self) -> bytes:
        """Give what comes after the last part: a sum and a size, modulo 2**32."""
        return self.LAST_BLOCK + struct.pack("<II", self.sum, self.size % 2**32)


@lru_cache(maxsize=4)
def deflated(data: bytes) -> bytes:
    """Pack a part so that it stands on its own, whatever comes before and after it."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush(zlib.Z_FULL_FLUSH)


async def stall() -> None:
    """Send nothing, and never come back."""
    await asyncio.Event().wait()
