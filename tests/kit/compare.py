"""Compare servers: the same streams on uvicorn, hypercorn and granian.

python -m tests.kit.compare     writes docs/production/servers.txt, the page's table
"""

import json
import signal
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from functools import partial

from cookbook.catalog import ROOT
from tests.kit import docs
from tests.kit.servers import HOST, WAIT, Server, granian, hypercorn, raw_get, uvicorn

APP = "tests.kit.compared:app"
TABLE = ROOT / "docs/production/servers.txt"
LONG = 8  # seconds; a server that has not ended by then waits for its clients
Start = Callable[[], AbstractContextManager[Server]]
SERVERS: dict[str, Start] = {
    "uvicorn": partial(uvicorn, APP),
    "uvicorn, h11": partial(uvicorn, APP, "--http", "h11"),
    "hypercorn": partial(hypercorn, APP),
    "granian": partial(granian, APP),
}


def ask(server: Server, target: str, version: str = "1.1") -> socket.socket:
    """Send a request, and give the connection; nothing is read."""
    connection = socket.create_connection((HOST, server.port), WAIT)
    connection.sendall(f"GET {target} HTTP/{version}\r\nHost: {HOST}\r\n\r\n".encode())
    return connection


def until(connection: socket.socket, text: bytes) -> bytes:
    """Read until `text` has come, or the server has closed."""
    got = b""
    while text not in got and (more := connection.recv(65_536)):
        got += more
    return got


def arrival(server: Server) -> str:
    """Tell whether the first chunk comes before the second is made."""
    with raw_get(server.port, "/two") as answer:
        first = answer.chunk()
        with raw_get(server.port, "/go"):
            second = answer.chunk()
    return "yes" if (first, second) == (b"one\n", b"two\n") else "no"


def old_client(server: Server) -> str:
    """Tell how a client that speaks HTTP/1.0 learns where a chunk ends."""
    with ask(server, "/silent", "1.0") as connection:
        head, _, rest = until(connection, b"one\n").partition(b"\r\n\r\n")
    chunked = b"transfer-encoding: chunked" in head.lower() or rest.startswith(b"4\r\n")
    return "by chunks, which HTTP/1.0 does not know" if chunked else "not at all"


def leaver(target: str, server: Server) -> str:
    """Tell what ends when a client leaves that has read everything."""
    with ask(server, target) as connection:
        until(connection, b"one")
    return ended(server)


def stalled(target: str, server: Server) -> str:
    """Tell what ends when a client leaves that has stopped reading."""
    with ask(server, target) as connection:
        connection.recv(1000)
    return ended(server)


def ended(server: Server) -> str:
    """Wait for the end of what the request holds; say what came before it."""
    try:
        said = server.expect("dependency left")
    except AssertionError:
        return "nothing"
    return "all" if "generator ended" in said else "the dependency"


def failure(server: Server) -> str:
    """Tell whether a client can see that a stream broke off."""
    with ask(server, "/broken") as connection, suppress(ConnectionError):
        body = until(connection, b"\r\n0\r\n\r\n")
    return "no" if body.endswith(b"\r\n0\r\n\r\n") else "yes"


def early_failure(server: Server) -> str:
    """Give the status of a stream that fails before its first chunk."""
    with ask(server, "/broken-at-once") as connection:
        return until(connection, b"\r\n").split()[1].decode()


def spec(server: Server) -> str:
    """Give the version of ASGI's HTTP that the server names."""
    with ask(server, "/scope", "1.0") as connection:
        body = until(connection, b"}").partition(b"\r\n\r\n")[2]
    return str(json.loads(body)["spec_version"])


def reason(server: Server) -> str:
    """Give the first line of an answer."""
    with raw_get(server.port, "/go") as answer:
        return f"`{answer.head.splitlines()[0]}`"


def stop(server: Server) -> str:
    """Tell what SIGTERM does while a client reads a silent stream."""
    with ask(server, "/silent") as connection:
        until(connection, b"one\n")
        server.signal(signal.SIGTERM)
        try:
            server.wait(LONG)
        except AssertionError:
            return "it waits for the client"
        said = server.output()
    order = [said.find(text) for text in ("generator ended", "lifespan ended")]
    if order[0] < 0:
        return "it ends; the generator's `finally` never runs"
    if order[0] > order[1] >= 0:
        return "it ends; the lifespan ends before the generator"
    return "it ends; the generator ends before the lifespan"


# What is asked, in the words of the table. The last one ends the server.
PROBES: dict[str, Callable[[Server], str]] = {
    "The first line of an answer": reason,
    "ASGI's version of HTTP (`spec_version`)": spec,
    "A chunk arrives before the next is made": arrival,
    "A client of HTTP/1.0 learns where a chunk ends": old_client,
    "A client leaves: what ends, `StreamingResponse`": partial(leaver, "/silent"),
    "A client leaves: what ends, `fastapi.sse`": partial(leaver, "/events"),
    "It did not read: what ends, `StreamingResponse`": partial(stalled, "/endless"),
    "The client sees that a stream broke off": failure,
    "A generator fails before its first chunk: the status": early_failure,
    "SIGTERM while a stream is open": stop,
}


def row_of(start: Start) -> list[str]:
    """Run every probe on one server, in their order."""
    with start() as server:
        return [probe(server) for probe in PROBES.values()]


def table() -> str:
    """Run every probe on every server; what differs comes first."""
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(row_of, SERVERS.values()))
    rows = [[*row] for row in zip(PROBES, *found, strict=True)]
    rows.sort(key=lambda row: len(set(row[1:])) == 1)
    return docs.table(["", *SERVERS], rows)


if __name__ == "__main__":
    TABLE.write_text(table(), "utf-8")
