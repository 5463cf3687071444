"""nginx and Caddy with the files of docs/production, as cookbook/proxy.py copies them.

with proxy("nginx", folder, app) as front, front.client() as client:
    with client.stream("GET", "/first") as response:
        ...
"""

import socket
import ssl
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2

from cookbook.proxy import HOW, Trial, command, environment
from tests.kit.servers import HOST, WAIT, Server, free_port, need, serve, until

FILES = {"nginx": "nginx.conf", "caddy": "Caddyfile"}
# What tells a file that was read again.
NEW = {
    "nginx": ("location / {", "location = /new { return 204; }\n        location / {"),
    "caddy": ("\thandle {", "\thandle /new {\n\t\trespond 204\n\t}\n\thandle {"),
}


@dataclass
class Front:
    """A proxy that is running, and what it stands in front of."""

    name: str
    server: Server
    app: Server
    trial: Trial

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"https://{HOST}:{self.trial.https}"

    def tls(self) -> ssl.SSLContext:
        """Trust its certificate. Each client needs its own: they write into it."""
        return ssl.create_default_context(cafile=self.trial.folder / "shop.example.crt")

    def client(self, *, http2: bool = True, address: str = HOST) -> httpx2.Client:
        """Give a client that comes from `address`, any one that begins with 127."""
        transport = httpx2.HTTPTransport(
            verify=self.tls(), http2=http2, http1=not http2, local_address=address
        )
        return httpx2.Client(base_url=self.url, transport=transport, timeout=WAIT)

    @contextmanager
    def connected(self, address: str = HOST) -> Iterator[ssl.SSLSocket]:
        """Give a connection for HTTP/1.1, as it is."""
        there = (HOST, self.trial.https)
        with (
            socket.create_connection(there, WAIT, (address, 0)) as plain,
            self.tls().wrap_socket(plain, server_hostname=HOST) as secret,
        ):
            yield secret

    @property
    def file(self) -> Path:
        """Give the file that it reads."""
        return self.trial.folder / FILES[self.name]

    def reloading(self) -> list[str]:
        """Give the command that lets it read its file again."""
        if self.name == "caddy":
            address = f"{HOST}:{self.trial.admin}"
            words = ["reload", "--config", str(self.file), "--address", address]
            return [self.server.argv[0], *words]
        return [*self.server.argv[:-2], "-s", "reload"]

    def reload(self) -> None:
        """Change its file, let it read it, and wait until what is new holds."""
        old, new = NEW[self.name]
        text = self.file.read_text("utf-8")
        assert text.count(old) == 1
        self.file.write_text(text.replace(old, new), "utf-8")
        subprocess.run(self.reloading(), check=True, capture_output=True, timeout=20)

        def holds() -> bool:
            # An old process may still take a connection, and close it.
            with suppress(httpx2.TransportError), self.client(http2=False) as client:
                return client.get("/new").status_code == 204
            return False

        until(holds, "the new configuration")


@contextmanager
def proxy(
    name: str,
    folder: Path,
    app: Server,
    *,
    ports: Sequence[int] = (),
    changes: Mapping[str, str] | None = None,
) -> Iterator[Front]:
    """Run `nginx` or `caddy` in front of an application server.

    `ports` are those of one or two others, if it is not this one that it is to ask.
    `changes` are texts of its file, and what stands there in this test.
    """
    ports = ports or (app.port,)
    folder.mkdir(exist_ok=True)
    trial = Trial(
        folder,
        https=free_port(),
        http=free_port(),
        admin=free_port(),
        apps=(ports[0], ports[-1]),
        changes=changes or {},
    )
    try:
        argv = command(name, trial)
    except FileNotFoundError:
        need(name, HOW.format(name))
    env = environment(trial)
    with serve(argv, trial.https, cwd=folder, env=env) as running:
        yield Front(name, running, app, trial)
