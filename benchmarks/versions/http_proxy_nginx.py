"""nginx as a proxy of the service: start the service, then become nginx."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.versions.http_proxy import SERVICE
from tests.kit.nginx import command
from tests.kit.servers import free_port


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
    print(f"http://127.0.0.1:{port}", file=sys.stderr, flush=True)
    os.execv(argv[0], argv)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
