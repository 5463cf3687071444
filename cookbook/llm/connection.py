"""HTTP as the scripted provider speaks it: a connection, and responses for it.

A connection that is reset and a chunk that ends inside a character are beyond ASGI.
Here h11 writes the HTTP, and each chunk is one write to the socket.
"""

import asyncio
import http.client
from collections.abc import Iterator, Sequence
from contextlib import suppress

import h11

from cookbook.llm import faults
from cookbook.llm.formats.answer import dumps

READ = 65536  # bytes

Headers = Sequence[tuple[str, str]]


class Reset:
    """Comes in place of a part of a response, and resets the connection."""


Step = h11.Event | Reset


class Connection:
    """One connection with a client."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.http = h11.Connection(h11.SERVER)
        # asyncio has set TCP_NODELAY; and so `drain` waits until the kernel has all.
        writer.transport.set_write_buffer_limits(high=0)

    async def request(self) -> tuple[h11.Request, bytes] | None:
        """Read the next request and its body; None if the client wants no more."""
        body = bytearray()
        while True:
            match self.http.next_event():
                case h11.NEED_DATA:
                    if self.http.they_are_waiting_for_100_continue:
                        go_on = h11.InformationalResponse(status_code=100, headers=[])
                        await self.send(go_on)
                    self.http.receive_data(await self.reader.read(READ))
                case h11.Request() as event:
                    request = event
                case h11.Data(data=data):
                    body += data
                case h11.EndOfMessage():
                    return request, bytes(body)
                case _:
                    return None

    async def gone(self) -> None:
        """Wait until the client has closed; what it still sends is for later."""
        with suppress(ConnectionError):
            while data := await self.reader.read(READ):
                self.http.receive_data(data)

    async def send(self, step: Step) -> None:
        """Write one part of a response, or reset the connection."""
        if isinstance(step, Reset):
            faults.reset(self.writer)
            self.http.send_failed()
            return
        data = self.http.send(step)
        if data:
            self.writer.write(data)
            await self.writer.drain()

    def next(self) -> bool:
        """Make ready for another request, if there can be one."""
        again = self.http.our_state is h11.DONE and self.http.their_state is h11.DONE
        if again:
            self.http.start_next_cycle()
        return again


def head(status: int, kind: str, headers: Headers = ()) -> h11.Response:
    """Make the head of a response; without a length, h11 sends it in chunks."""
    return h11.Response(
        status_code=status,
        reason=http.client.responses.get(status, ""),
        headers=[("Content-Type", kind), *headers],
    )


def at_once(
    status: int, kind: str, body: bytes, headers: Headers = ()
) -> Iterator[h11.Event]:
    """Make a whole response."""
    yield head(status, kind, [("Content-Length", str(len(body))), *headers])
    yield h11.Data(data=body)
    yield h11.EndOfMessage()


def in_json(status: int, data: object, headers: Headers = ()) -> Iterator[h11.Event]:
    """Make a whole response of data."""
    yield from at_once(status, "application/json", dumps(data).encode(), headers)
