"""nginx and Caddy with the files of docs/production, as cookbook/proxy.py copies them.

with proxy("nginx", folder, app) as front, front.client() as client:
    with client.stream("GET", "/first") as response:
        ...
"""

import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from cookbook.proxy import HOW, Trial, command
from tests.kit.servers import HOST, WAIT, Server, free_port, need, serve


@dataclass
class Front:
    """A proxy that is running, and what it stands in front of."""

    name: str
    server: Server
    app: Server
    trial: Trial
    tls: ssl.SSLContext  # which trusts its certificate

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"https://{HOST}:{self.trial.https}"

    def client(self, *, http2: bool = True, address: str = HOST) -> httpx2.Client:
        """Give a client that comes from `address`, any one that begins with 127."""
        transport = httpx2.HTTPTransport(
            verify=self.tls, http2=http2, http1=not http2, local_address=address
        )
        return httpx2.Client(base_url=self.url, transport=transport, timeout=WAIT)

    @contextmanager
    def connected(self, address: str = HOST) -> Iterator[ssl.SSLSocket]:
        """Give a connection for HTTP/1.1, as it is."""
        there = (HOST, self.trial.https)
        with (
            socket.create_connection(there, WAIT, (address, 0)) as plain,
            self.tls.wrap_socket(plain, server_hostname=HOST) as secret,
        ):
            yield secret


@contextmanager
def proxy(
    name: str, folder: Path, *apps: Server, changes: Mapping[str, str] | None = None
) -> Iterator[Front]:
    """Run `nginx` or `caddy` in front of one application server, or of two.

    `changes` are texts of its file, and what stands there in this test.
    """
    folder.mkdir(exist_ok=True)
    trial = Trial(
        folder,
        https=free_port(),
        http=free_port(),
        admin=free_port(),
        apps=(apps[0].port, apps[-1].port),
        changes=changes or {},
    )
    try:
        argv = command(name, trial)
    except LookupError as error:
        if "missing" not in str(error):
            raise
        need(name, HOW.format(name))
    tls = ssl.create_default_context(cafile=folder / "shop.example.crt")
    env = {"HOME": str(folder)}  # Caddy keeps things there.
    with serve(argv, trial.https, cwd=folder, env=env) as running:
        yield Front(name, running, apps[0], trial, tls)
