"""What the scripted provider does to the bytes of an answer, and to its connection."""

import asyncio
import re
import socket
import struct

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


async def stall() -> None:
    """Send nothing, and never come back."""
    await asyncio.Event().wait()
