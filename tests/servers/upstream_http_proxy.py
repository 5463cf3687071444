r"""A service to be passed on: it says what a test gives it, and keeps a record.

    with upstream() as service:
        service.says(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ntea")
        ...
        assert service.asked[0].target == "/orders"
        assert service.asked[0].gone.wait(15)

It writes its bytes as they are, right or wrong. Each connection has a thread of its
own, which reads a request, answers, and reads on until the other side has left.
"""

import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

WAIT = 15  # seconds, the limit of every wait
HOST = "127.0.0.1"
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@dataclass
class Asked:
    """One request, and what became of it."""

    connection: int  # the number of its connection, from 0
    head: str = ""
    body: bytearray = field(
        default_factory=bytearray
    )  # as it was on the wire, with the framing of its chunks
    whole: bool = False  # whether the body came to its end
    gone: threading.Event = field(default_factory=threading.Event)  # the client left

    @property
    def target(self) -> str:
        """What stands in the first line, after the method."""
        return self.head.split(" ")[1]

    @property
    def fields(self) -> dict[str, str]:
        """The header fields, with their names in lower case."""
        lines = [line.partition(":") for line in self.head.split("\r\n")[1:] if line]
        return {name.lower(): value.strip() for name, _, value in lines}


Answer = Callable[[Asked, socket.socket], None]


class Upstream:
    """The service, as a test sees it."""

    def __init__(self, listener: socket.socket) -> None:
        self.port: int = listener.getsockname()[1]
        self.url = f"http://{HOST}:{self.port}"
        self.asked: list[Asked] = []
        self.connections = 0
        self.reads_bodies = True
        self.hung_up = threading.Semaphore(0)  # once for each connection that has ended
        self._gate, self._opener = socket.socketpair()
        self._changed = threading.Condition()
        self._answer: Answer = lambda _, to: to.sendall(EMPTY)

    def says(self, *parts: bytes, close: bool = False, reset: bool = False) -> None:
        """Answer every request with these bytes; wait for `go` before each later part.

        Then the connection stays open, unless it is to be closed, or reset.
        """

        def answer(_: Asked, to: socket.socket) -> None:
            for number, part in enumerate(parts):
                if number and not self.pass_gate(to):
                    return
                to.sendall(part)
            if reset:
                to.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
            if close or reset:
                to.close()

        self._answer = answer

    def does(self, answer: Answer) -> None:
        """Answer every request with a function of the request and the connection."""
        self._answer = answer

    def pass_gate(self, connection: socket.socket) -> bool:
        """Wait for `go`; tell whether it came before the other side had left."""
        ready, _, _ = select.select([self._gate, connection], [], [], WAIT)
        if self._gate in ready:
            self._gate.recv(1)
        return self._gate in ready

    def go(self) -> None:
        """Let an answer go on with its next part."""
        self._opener.send(b"x")

    def close(self) -> None:
        """Let go of what `go` needs."""
        self._gate.close()
        self._opener.close()

    def wait(self, number: int = 1) -> Asked:
        """Wait until so many requests have come; give the last of them."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.asked) >= number, WAIT)
            return self.asked[number - 1]

    def wait_for_body(self, size: int) -> Asked:
        """Wait until the latest request has so many bytes of a body on the wire."""
        with self._changed:
            assert self._changed.wait_for(
                lambda: bool(self.asked) and len(self.asked[-1].body) >= size, WAIT
            )
            return self.asked[-1]

    def note(self) -> None:
        """Wake those who wait for a change of the record."""
        with self._changed:
            self._changed.notify_all()

    def serve(self, connection: socket.socket, number: int) -> None:
        """Serve one connection until the other side has left."""
        asked: Asked | None = None
        with suppress(OSError), connection:
            pending = b""
            while True:
                while b"\r\n\r\n" not in pending:
                    piece = connection.recv(65536)
                    if not piece:
                        return self.left(asked)
                    pending += piece
                head, _, pending = pending.partition(b"\r\n\r\n")
                asked = Asked(number, head.decode("latin-1"))
                self.asked.append(asked)
                self.note()
                if self.reads_bodies and not self.read_body(asked, connection, pending):
                    return self.left(asked)
                pending = b""
                self._answer(asked, connection)
        return self.left(asked)

    def read_body(self, asked: Asked, connection: socket.socket, start: bytes) -> bool:
        """Read a body to its end; tell whether it came to one."""
        asked.body += start
        length = int(asked.fields.get("content-length", 0))
        chunked = asked.fields.get("transfer-encoding") == "chunked"

        def complete() -> bool:
            if chunked:
                return asked.body.endswith(b"0\r\n\r\n")
            return len(asked.body) >= length

        while not complete():
            try:
                piece = connection.recv(65536)
            except OSError:
                return False
            if not piece:
                return False
            asked.body += piece
            self.note()
        asked.whole = True
        self.note()
        return True

    def left(self, asked: Asked | None) -> None:
        """Note that the other side has left."""
        self.hung_up.release()
        if asked:
            asked.gone.set()


def unchunked(body: bytes | bytearray) -> bytes:
    """Take off the chunked framing (RFC 9112, 7.1)."""
    found = b""
    rest = bytes(body)
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        found += rest[:length]
        rest = rest[length + 2 :]
    return found


@contextmanager
def upstream() -> Iterator[Upstream]:
    """Run a service on a free port until the block ends."""
    with socket.create_server((HOST, 0)) as listener:
        service = Upstream(listener)
        open_ones: list[socket.socket] = []

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    open_ones.append(connection)
                    number, service.connections = (
                        service.connections,
                        service.connections + 1,
                    )
                    threading.Thread(
                        target=service.serve, args=(connection, number), daemon=True
                    ).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield service
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(WAIT)
            service.close()
            for connection in open_ones:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
