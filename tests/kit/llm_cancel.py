"""Talk to the recipe `llm_cancel` over sockets, as slowly and rudely as a test likes.

with generation(port, "tea") as stream:
    assert stream.next() == ("start", {"id": "tea", "model": "gated"})
    assert post_cancel(port, "tea") == 204
    assert stream.next()[0] == "cancelled"
"""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2

from tests.kit import sse
from tests.kit.servers import HOST, WAIT, Answer

Event = tuple[str, dict[str, Any]]
PING = b": ping\n\n"  # FastAPI's own, after 15 seconds of silence


class Stream:
    """A generation's events, read one by one."""

    def __init__(self, connection: socket.socket) -> None:
        self.answer = Answer(connection)
        self.status = int(self.answer.head.split()[1])

    def next(self) -> Event:
        """Read one chunk, which must be one event; EOFError if it was the last.

        A ping may come before it, on a machine that is very busy.
        """
        while chunk := self.answer.chunk():
            if chunk != PING:
                (found,) = sse.parse([chunk]).events
                return found.event, json.loads(found.data)
        raise EOFError("the stream has ended")

    def rest(self) -> list[Event]:
        """Read all events up to the end."""
        events = sse.parse([self.answer.rest()]).events
        return [(event.event, json.loads(event.data)) for event in events]


def asked(
    port: int, name: str, owner: str = "ada", query: str = "", buffer: int = 0
) -> socket.socket:
    """Send the request; `buffer` is the size of the buffer of received bytes."""
    connection = socket.socket()
    if buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    connection.settimeout(WAIT)
    connection.connect((HOST, port))
    head = (
        f"PUT /generations/{name}?prompt=x{query} HTTP/1.1\r\nHost: {HOST}:{port}\r\n"
    )
    head += f"Authorization: Bearer {owner}\r\nContent-Length: 0\r\n\r\n"
    connection.sendall(head.encode("latin-1"))
    return connection


@contextmanager
def generation(
    port: int, name: str, owner: str = "ada", query: str = ""
) -> Iterator[Stream]:
    """Begin a generation; the end of the block closes its connection."""
    stream = Stream(asked(port, name, owner, query))
    try:
        yield stream
    finally:
        stream.answer.close()


def post_cancel(port: int, name: str, owner: str = "ada") -> int:
    """Ask to stop a generation; give the status."""
    return refusal(port, name, owner).status_code


def refusal(port: int, name: str, owner: str = "ada") -> httpx2.Response:
    """Ask to stop a generation; give the answer."""
    url = f"http://{HOST}:{port}/generations/{name}/cancel"
    headers = {"Authorization": f"Bearer {owner}"}
    return httpx2.post(url, headers=headers, timeout=WAIT)
