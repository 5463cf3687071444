"""Real servers as processes of their own, and a client as slow as you like.

    with uvicorn("recipes.csv_export:app") as server:
        with raw_get(server.port, "/orders.csv?rows=5000") as answer:
            assert answer.head.startswith("HTTP/1.1 200 OK")
            first = answer.chunk()
        # Leaving the block closes the socket in mid-stream, as a browser tab does.
        server.expect("disconnected")

`uvicorn` is forked from a process that has made its imports (tests/kit/warm.py). Any
other server takes seconds for them: start it in a fixture for the whole module. Give a
test that starts a server a `pytest.mark.timeout` of more than `START`.
"""

import os
import secrets
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from http.server import HTTPServer
from pathlib import Path
from threading import Thread
from typing import IO, NoReturn, Protocol

import pytest

from tests.kit.warm import Warm, is_possible

START = 30  # seconds until a server must listen; its imports alone can take ten
STOP = 5  # seconds from SIGTERM to SIGKILL
WAIT = 15  # seconds, the limit of every read; ample, as a machine may be busy
POLL = 0.02  # seconds between two looks at something that sends no notice
HOST = "127.0.0.1"
ROOT = Path(__file__).parents[2]

running: list["Server"] = []  # their output is shown with every test that fails


def need(what: str, how_to_get_it: str) -> NoReturn:
    """Skip a test that lacks a program; under `CI=true` nothing may be lacking."""
    reason = f"{what} is missing: {how_to_get_it}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def until(
    condition: Callable[[], object], what: str = "it", seconds: float = WAIT
) -> None:
    """Wait for something that sends no notice.

    Raises:
        AssertionError: within that many seconds the condition gave nothing true.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(POLL)


def free_port() -> int:
    """Choose a port that nobody listens on, and that no connection gets by chance.

    A system takes the ports of outgoing connections from 49152 on (RFC 6335, section
    6), Linux from 32768. Chromium refuses some ports up to 10080.
    """
    while True:
        port = 11_000 + secrets.randbelow(32_768 - 11_000)
        with suppress(OSError), socket.create_server((HOST, port)):
            return port


class Process(Protocol):
    """What is asked of a process, however it was started."""

    @property
    def pid(self) -> int: ...  # noqa: D102
    @property
    def returncode(self) -> int | None: ...  # noqa: D102
    def poll(self) -> int | None: ...  # noqa: D102
    def wait(self, timeout: float | None = None) -> int: ...  # noqa: D102
    def send_signal(self, number: int, /) -> None: ...  # noqa: D102


@dataclass(eq=False)
class Server:
    """A process that listens on `port` of 127.0.0.1."""

    argv: Sequence[str]
    port: int
    process: Process
    log: IO[bytes]
    final: str | None = None  # the output, once the process has ended
    seen: int = 0  # characters of the output that `expect` has given

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self.port}"

    def output(self) -> str:
        """Everything that it has written so far, stdout and stderr together."""
        if self.final is not None:
            return self.final
        return Path(self.log.name).read_text("utf-8", "replace")

    def expect(self, text: str, seconds: float = WAIT) -> str:
        """Wait for `text`; give the output from the last call's `text` up to this one.

        Raises:
            AssertionError: it was not written within that many seconds.
        """
        deadline = time.monotonic() + seconds
        while (end := self.output().find(text, self.seen)) < 0:
            if time.monotonic() > deadline:
                raise self.error(f"did not write {text!r} within {seconds} s")
            time.sleep(POLL)
        start, self.seen = self.seen, end + len(text)
        return self.output()[start : self.seen]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this process alone, not to its children."""
        self.process.send_signal(number)

    def wait(self, seconds: float = WAIT) -> int:
        """Give the exit code; AssertionError if it does not end in time."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise self.error(f"did not end within {seconds} s") from None

    def error(self, what: str) -> AssertionError:
        """Make an error that shows the command and its output."""
        return AssertionError(f"{self} {what}:\n{self.output()}")

    def __str__(self) -> str:
        return " ".join(self.argv)


@contextmanager
def serve(
    argv: Sequence[str],
    port: int,
    *,
    cwd: Path = ROOT,
    env: Mapping[str, str] | None = None,
    warm: bool = False,
) -> Iterator[Server]:
    """Run a command until the block ends; enter the block when `port` accepts.

    `env` adds to the environment. The command gets a process group of its own, which is
    ended as a whole. If the block raises, the output is added to the error as a note.
    With `warm`, a command `python -u -m …` is forked, where that is possible.

    Raises:
        AssertionError: the command ended, or did not listen within `START` seconds.
    """
    with tempfile.NamedTemporaryFile() as log:
        process = _start(argv, cwd, env, log, warm=warm)
        server = Server(argv, port, process, log)
        running.append(server)
        try:
            _until_it_listens(server)
            yield server
        except BaseException as error:
            # By the time the test is reported this server no longer runs.
            error.add_note(f"Output of {server}:\n{server.output()}")
            raise
        finally:
            running.remove(server)
            _stop(process)
            server.final = server.output()


def _start(
    argv: Sequence[str],
    cwd: Path,
    env: Mapping[str, str] | None,
    log: IO[bytes],
    *,
    warm: bool,
) -> Process:
    environment = {**os.environ, **(env or {})}
    if warm and is_possible(env):
        python, *options, module = argv[:4]
        assert [python, *options] == [sys.executable, "-u", "-m"], argv
        return Warm(module, argv[4:], cwd=cwd, env=environment, log=log)
    return subprocess.Popen(
        argv,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def _until_it_listens(server: Server) -> None:
    deadline = time.monotonic() + START
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise server.error(f"ended with {server.process.returncode}")
        with suppress(OSError), socket.create_connection((HOST, server.port), WAIT):
            return
        time.sleep(POLL)
    raise server.error(f"did not listen on {server.port} within {START} s")


def _stop(process: Process) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP)
    # Children that outlive their parent still belong to its group.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def in_a_thread(server: HTTPServer) -> Iterator[str]:
    """Let a server of the standard library serve until the block ends; its address."""
    with server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://{HOST}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def uvicorn(
    app: str,
    *options: str,
    cwd: Path = ROOT,
    env: Mapping[str, str] | None = None,
    warm: bool = True,
) -> Iterator[Server]:
    """Serve `module:app` with uvicorn on a free port; enter when each worker serves.

    It is forked from a process that has made the imports, which takes a fraction of
    the time, unless an option asks for interpreters of its own.
    """
    port = free_port()
    warm = warm and not {"--workers", "--reload"} & set(options)
    # Unbuffered, so that what the app prints is in the output at once.
    argv = [sys.executable, "-u", "-m", "uvicorn", app, "--port", str(port), *options]
    if "--workers" in options:
        # After five seconds it would end a worker that is slow on a busy machine. And
        # it may take so long until it notices that a worker has died.
        argv += ["--timeout-worker-healthcheck", str(WAIT)]
    with serve(argv, port, cwd=cwd, env=env, warm=warm) as server:
        if "--workers" in options and "--reload" not in options:
            # It listens before they all serve. With --reload there is only one.
            workers = int(options[options.index("--workers") + 1])
            begun = "Application startup complete"
            until(lambda: server.output().count(begun) >= workers, "workers", START)
        yield server


def hypercorn(
    app: str, *options: str, cwd: Path = ROOT, env: Mapping[str, str] | None = None
) -> AbstractContextManager[Server]:
    """Serve `module:app` with hypercorn on a free port."""
    port = free_port()
    argv = [sys.executable, "-u", "-m", "hypercorn", app, "-b", f"{HOST}:{port}"]
    return serve([*argv, *options], port, cwd=cwd, env=env)


def granian(
    app: str, *options: str, cwd: Path = ROOT, env: Mapping[str, str] | None = None
) -> AbstractContextManager[Server]:
    """Serve `module:app` with granian on a free port."""
    port = free_port()
    argv = [sys.executable, "-u", "-m", "granian", app, "--interface", "asgi"]
    argv += ["--host", HOST, "--port", str(port)]
    return serve([*argv, *options], port, cwd=cwd, env=env)


class Answer:
    """An HTTP/1.1 response, read piece by piece from the socket."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.stream = connection.makefile("rb")
        lines = []
        while (line := self.stream.readline()) != b"\r\n":
            if not line:
                raise EOFError("the server closed before the head was complete")
            lines.append(line)
        self.head = b"".join(lines).decode("latin-1")

    def chunk(self) -> bytes:
        """Read one chunk of the chunked coding (RFC 9112, 7.1); b"" is the last one.

        Raises:
            EOFError: the connection ended before the last chunk.
        """
        size = self.stream.readline()
        if not size.endswith(b"\r\n"):
            raise EOFError(f"the stream was cut off after {size!r}")
        body = self.stream.read(int(size.split(b";")[0], 16))
        if self.stream.readline() != b"\r\n":
            raise EOFError(f"the stream was cut off after {body!r}")
        return body

    def rest(self) -> bytes:
        """Read everything up to the last chunk."""
        return b"".join(iter(self.chunk, b""))

    def abort(self) -> None:
        """Reset the connection (RST), as a client that crashes does."""
        reset(self.connection)
        self.stream.close()

    def close(self) -> None:
        """Close the connection (FIN), whatever is still to come."""
        self.stream.close()
        self.connection.close()


def ask(port: int, path: str, fields: bytes = b"") -> socket.socket:
    """Send a request whose header may hold any bytes, and wait for nothing.

    The server closes the connection after its answer.
    """
    connection = socket.create_connection((HOST, port), WAIT)
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n".encode()
    connection.sendall(head + fields + b"\r\n")
    return connection


def reset(connection: socket.socket) -> None:
    """Leave as a client that crashes does: with a linger of zero, close says RST."""
    linger = struct.pack("ii", 1, 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    connection.close()


@contextmanager
def raw_get(
    port: int, path: str, headers: Mapping[str, str] | None = None
) -> Iterator[Answer]:
    """Ask for `path` and read the head; the end of the block closes the socket."""
    fields = {"Host": f"{HOST}:{port}", **(headers or {})}
    lines = [f"GET {path} HTTP/1.1", *(f"{k}: {v}" for k, v in fields.items())]
    with socket.create_connection((HOST, port), WAIT) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        answer = Answer(connection)
        try:
            yield answer
        finally:
            answer.close()
