"""Run one pitfall, for as long as somebody holds this process's input open.

`python -m cookbook.pitfall plain_text/joined_before_sending` serves it on a free port
of 127.0.0.1 and prints the port, or why it cannot. A pitfall may freeze its event loop,
so a thread watches the input: the process ends with whoever started it, however that
one ends.
"""

import importlib
import os
import socket
import sys
import threading

import uvicorn

from cookbook.catalog import pitfall_sources

HOST = "127.0.0.1"


class Server(uvicorn.Server):
    """A uvicorn that prints its port once it serves."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say where."""
        await super().startup(sockets)
        if self.started:
            port = self.servers[0].sockets[0].getsockname()[1]
            sys.stdout.write(f"{port}\n")
            sys.stdout.flush()


def end_with_the_input() -> None:
    """Wait until the input is closed, and end at once."""
    sys.stdin.buffer.read()
    os._exit(0)


def main(name: str) -> None:
    """Serve the pitfall of that name; raises LookupError if there is none."""
    known = {f"{path.parent.name}/{path.stem}" for path in pitfall_sources()}
    if name not in known:
        raise LookupError(f"there is no pitfall {name!r}")
    threading.Thread(target=end_with_the_input, daemon=True).start()
    app = importlib.import_module(f"recipes.pitfalls.{name.replace('/', '.')}").app
    Server(uvicorn.Config(app, host=HOST, port=0, log_level="critical")).run()


if __name__ == "__main__":
    main(sys.argv[1])
