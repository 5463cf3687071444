"""cookbook.buffering: the nginx behind the panels' switch."""

import signal
import socket
import subprocess
import sys

import pytest

from cookbook import buffering, proxy
from cookbook.catalog import ROOT
from tests.kit.servers import WAIT, need, until

CODE = """
import sys
from cookbook import buffering, proxy
with buffering.running(9) as address:
    print(address, flush=True)
    sys.stdin.read()
"""


def listens(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.timeout(30)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_it_ends_with_its_process_however_that_ends(number: signal.Signals) -> None:
    if proxy.nginx() is None:
        need("nginx", "pip install -e '.[servers]', or apt-get install nginx")
    with subprocess.Popen(
        [sys.executable, "-c", CODE],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().rpartition(":")[2])
        until(lambda: listens(port), "nginx")
        process.send_signal(number)
        assert process.wait(WAIT) == -number
    until(lambda: not listens(port), "its end")


def test_without_nginx_there_is_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "nginx", lambda: None)
    with buffering.running(9) as address:
        assert address is None
