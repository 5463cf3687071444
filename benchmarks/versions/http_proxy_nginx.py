"""nginx as a proxy of the service: start the service, then become nginx."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from benchmarks.versions.http_proxy import SERVICE
from tests.kit.nginx import command
from tests.kit.servers import free_port


def tell_when_it_listens(port: int) -> None:
    """Print the address as soon as somebody accepts there, and end the process."""
    with suppress(KeyboardInterrupt):
        for _ in range(1000):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                print(f"http://127.0.0.1:{port}", file=sys.stderr, flush=True)
                break
            time.sleep(0.01)
    os._exit(0)


def main() -> None:
    """Serve; what the command line holds is added to the location."""
    folder = tempfile.mkdtemp()
    # nginx inherits the other end of its input: the service ends when nginx does.
    ours, its = os.pipe()
    os.set_inheritable(its, True)
    service = subprocess.Popen(
        [*SERVICE, folder], stdin=ours, stdout=subprocess.PIPE, text=True
    )
    os.close(ours)
    if service.stdout is None:
        raise RuntimeError("the service was started with pipes")
    url = service.stdout.readline().strip()
    port = free_port()
    more = " ".join(sys.argv[1:])
    location = f"location /shop/ {{ proxy_pass {url}/; {more} }}"
    argv = command(Path(folder), port, location)
    if os.fork() == 0:
        tell_when_it_listens(port)
    os.execv(argv[0], argv)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
