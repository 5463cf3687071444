"""The client that measures a broadcast: listeners that stay, in one process.

It opens many connections, and then tells the server one order after the other. It asks
for the next one only when every listener has the last, so nothing is ever dropped.
"""

import gc
import resource
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks.client import SILENCE, WrongBodyError

AT_ONCE = 100  # connections that are opened together
MARK = b"data: {"  # stands in every event once, and in nothing else
SPARE = 200  # open files beside the listeners


@dataclass
class Told:
    """What came of some orders; times in seconds."""

    seconds: float = 0.0  # from telling an order to its last arrival, added up
    lags: list[float] = field(default_factory=list)  # one for each arrival
    bytes: int = 0


def allow(files: int) -> None:
    """Let this process, and those that it starts, open so many files.

    Raises:
        RuntimeError: the system does not let a process do that.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = files + SPARE
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise RuntimeError(f"{needed} open files are needed; ulimit -Hn says {hard}")
    if soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


class Listener:
    """One connection, from the end of its head on."""

    def __init__(self, port: int, path: str) -> None:
        self.connection = socket.create_connection(("127.0.0.1", port), SILENCE)
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        self.connection.sendall(request.encode())
        self.body = b""  # chunked
        self.tail = b""  # of what was read last: a mark may be cut
        self.events = 0
        self.size = 0  # bytes behind the head

    def read_head(self) -> None:
        """Read up to the body; WrongBodyError if it is no stream."""
        head = b""
        while b"\r\n\r\n" not in head:
            if not (piece := self.connection.recv(64 * 1024)):
                raise WrongBodyError("no answer")
            head += piece
        head, _, rest = head.partition(b"\r\n\r\n")
        if b" 200" not in head.partition(b"\r\n")[0]:
            raise WrongBodyError(head.decode("latin-1"))
        self.add(rest, keep=True)

    def read(self, *, keep: bool) -> None:
        """Read what is there; WrongBodyError if that is the end."""
        piece = self.connection.recv(64 * 1024)
        if not piece:
            raise WrongBodyError("a stream has ended")
        self.add(piece, keep=keep)

    def add(self, piece: bytes, *, keep: bool) -> None:
        """Count the events that begin in a piece."""
        self.size += len(piece)
        seam = self.tail + piece
        self.events += seam.count(MARK)
        self.tail = seam[-(len(MARK) - 1) :]
        if keep:
            self.body += piece


class Crowd:
    """Listeners that are connected to one server."""

    def __init__(self, port: int, listeners: list[Listener]) -> None:
        self.port = port
        self.listeners = {one.connection.fileno(): one for one in listeners}
        self.poll = select.epoll()
        for number in self.listeners:
            self.poll.register(number, select.EPOLLIN)

    def bodies(self) -> list[bytes]:
        """Give what each listener got, still in chunks, as far as it was kept."""
        return [one.body for one in self.listeners.values()]

    def tell(self, orders: int, *, pace: float = 0.0, keep: bool = False) -> Told:
        """Tell orders 1 to `orders`, and read each until every listener has it.

        From one order to the next it takes `pace` seconds at least; `keep` keeps the
        bodies.

        Raises:
            WrongBodyError: an event came twice, or not at all.
        """
        told = Told()
        with socket.create_connection(("127.0.0.1", self.port), SILENCE) as teller:
            for number in range(1, orders + 1):
                if any(one.events >= number for one in self.listeners.values()):
                    raise WrongBodyError(f"event {number} came before it was told")
                began = time.perf_counter()
                post(teller, number)
                self.read_until_all_have(number, began, told, keep=keep)
                told.seconds += time.perf_counter() - began
                answer = teller.recv(64 * 1024)
                if b" 202" not in answer.partition(b"\r\n")[0]:
                    raise WrongBodyError(answer.decode("latin-1"))
                time.sleep(max(began + pace - time.perf_counter(), 0))
        told.bytes = sum(one.size for one in self.listeners.values())
        return told

    def read_until_all_have(
        self, events: int, began: float, told: Told, *, keep: bool
    ) -> None:
        """Read until every listener has so many events."""
        missing = sum(one.events < events for one in self.listeners.values())
        while missing:
            ready = self.poll.poll(SILENCE)
            if not ready:
                raise WrongBodyError(f"{missing} listeners lack event {events}")
            for number, _ in ready:
                one = self.listeners[number]
                before = one.events
                one.read(keep=keep)
                if one.events > events:
                    raise WrongBodyError(f"an event came twice: {one.tail!r}")
                if one.events > before:
                    told.lags.append(time.perf_counter() - began)
                    missing -= 1


def post(teller: socket.socket, number: int) -> None:
    """Tell the server about an order."""
    head = f"POST /orders/{number}/paid HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    teller.sendall(f"{head}Content-Length: 0\r\n\r\n".encode())


@contextmanager
def connected(port: int, path: str, listeners: int) -> Iterator[Crowd]:
    """Open so many connections until the block ends."""
    opened: list[Listener] = []
    collecting = gc.isenabled()
    gc.disable()  # A pause of this process would count as a lag of the server.
    try:
        while len(opened) < listeners:
            some = min(AT_ONCE, listeners - len(opened))
            opened += (new := [Listener(port, path) for _ in range(some)])
            for one in new:
                one.read_head()
        crowd = Crowd(port, opened)
        yield crowd
        crowd.poll.close()
    finally:
        for one in opened:
            one.connection.close()
        if collecting:
            gc.enable()
