"""docs/recipes/file_upload.md: clients that leave, wait and send too much, for real."""

import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from cookbook.catalog import ROOT
from recipes.file_upload import LIMIT
from tests.kit import clients, servers
from tests.kit.changed import changed
from tests.kit.servers import WAIT, Server, need, reset, until, uvicorn

pytestmark = pytest.mark.timeout(servers.START + 10)

MB = 1_000_000
PAGE = (ROOT / "docs/recipes/file_upload.md").read_text("utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("uploads")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    env = {"UPLOADS_DIR": str(folder)}
    with uvicorn("recipes.file_upload:app", env=env, warm=True) as running:
        yield running


def head(length: int | None, *more: str) -> bytes:
    """Write the head of an upload; without a length its body is chunked."""
    kind = (
        "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    )
    lines = ["POST /uploads HTTP/1.1", "Host: x", kind, *more, "", ""]
    return "\r\n".join(lines).encode("ascii")


@pytest.mark.parametrize("sent", [0, 1, 100_000, 3 * MB])
@pytest.mark.parametrize("abrupt", [True, False])
@pytest.mark.parametrize("length", [10 * MB, None])
def test_a_client_that_leaves_leaves_nothing(
    server: Server, folder: Path, sent: int, abrupt: bool, length: int | None
) -> None:
    before = set(folder.iterdir())
    body = bytes(sent) if length else b"%x\r\n" % (sent + 1) + bytes(sent)
    with socket.create_connection(("127.0.0.1", server.port), WAIT) as connection:
        connection.sendall(head(length) + body)
        until(lambda: set(folder.iterdir()) - before, "the part")
        (part,) = set(folder.iterdir()) - before
        assert part.name.endswith(".part")
        if abrupt:
            reset(connection)
    until(lambda: set(folder.iterdir()) == before, "the part to go")


def test_many_clients_that_leave_log_no_error(server: Server, folder: Path) -> None:
    before = set(folder.iterdir())
    for size in range(0, 400_000, 20_000):
        with socket.create_connection(("127.0.0.1", server.port), WAIT) as connection:
            connection.sendall(head(MB) + bytes(size))
    until(lambda: set(folder.iterdir()) == before, "the parts to go")
    assert "Traceback" not in server.output()
    assert "ERROR" not in server.output()


def test_an_upload_in_a_hundred_pieces_arrives_whole(
    server: Server, folder: Path
) -> None:
    content = os.urandom(1_234_567)

    def pieces() -> Iterator[bytes]:
        for at in range(0, len(content), 12_345):
            yield content[at : at + 12_345]

    stored = httpx2.post(f"{server.url}/uploads", content=pieces()).json()
    name = hashlib.sha256(content).hexdigest()
    assert stored == {"sha256": name, "size": len(content)}
    assert (folder / name).read_bytes() == content


def answer_to(server: Server, request: bytes) -> bytes:
    """Send a head without its body, and read the head of what comes back."""
    with socket.create_connection(("127.0.0.1", server.port), WAIT) as connection:
        connection.sendall(request)
        found = b""
        while b"\r\n\r\n" not in found:
            piece = connection.recv(65536)
            assert piece, found
            found += piece
        return found


def test_who_asks_first_is_refused_before_a_byte_of_the_body_is_sent(
    server: Server,
) -> None:
    expect = "Expect: 100-continue"
    assert answer_to(server, head(LIMIT + 1, expect)).startswith(b"HTTP/1.1 413 ")
    assert answer_to(server, head(9, expect)).startswith(b"HTTP/1.1 100 Continue")


def test_who_does_not_ask_is_refused_as_well(server: Server) -> None:
    assert answer_to(server, head(LIMIT + 1)).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("value", ["-1", "1e3", "ten", "5, 5", "0x10"])
def test_a_length_that_is_no_number_is_refused(server: Server, value: str) -> None:
    """Attack: A Content-Length that is no number: 400."""
    request = head(0).replace(b"Content-Length: 0", f"Content-Length: {value}".encode())
    assert answer_to(server, request).startswith(b"HTTP/1.1 400 ")


def test_a_disk_that_is_slow_slows_the_client_down(tmp_path: Path) -> None:
    env = {"UPLOADS_DIR": str(tmp_path)}
    size = 100 * MB
    with (
        uvicorn("tests.servers.slow_file_upload:app", env=env, warm=True) as slow,
        socket.create_connection(("127.0.0.1", slow.port), WAIT) as connection,
    ):
        connection.sendall(head(size))
        sent = 0
        connection.settimeout(0.5)
        try:
            while sent < size:
                sent += connection.send(bytes(64 * 1024)[: size - sent])
        except TimeoutError:
            pass
        # What is on its way: a batch, and the buffers of both ends of the connection.
        assert sent < 20 * MB
        httpx2.post(f"{slow.url}/go-on")
        connection.settimeout(WAIT)
        while sent < size:
            sent += connection.send(bytes(64 * 1024)[: size - sent])
        assert connection.recv(65536).startswith(b"HTTP/1.1 201 ")


def test_an_upload_of_200_mb_takes_less_than_16_mb_of_memory(
    server: Server, tmp_path: Path
) -> None:
    def most() -> int:
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+)", status)
        assert found
        return int(found[1]) * 1024

    curl = shutil.which("curl") or need("curl", "apt-get install curl")
    source = tmp_path / "big.bin"
    sizes = []
    for size in (MB, 200 * MB):
        with source.open("wb") as file:
            file.truncate(size)
        command = [curl, "-q", "-sS", "-X", "POST", "-T", str(source)]
        url = f"{server.url}/uploads"
        done = subprocess.run([*command, url], capture_output=True, timeout=30)
        assert json.loads(done.stdout)["size"] == size
        sizes.append(most())
    assert sizes[1] - sizes[0] < 16 * MB


@pytest.mark.parametrize("name", ["file_upload.py", "file_upload.mjs"])
def test_a_client_sends_a_file_and_learns_its_hash(
    server: Server, tmp_path: Path, name: str
) -> None:
    content = os.urandom(2 * MB)
    (tmp_path / "big.bin").write_bytes(content)
    done = clients.run(name, server.url, tmp_path)
    assert done.returncode == 0, done.stderr
    digest = hashlib.sha256(content).hexdigest()
    last = done.stdout.splitlines()[-1].replace(",", "")
    assert last == f"stored 2000000 bytes as {digest}"


def test_break_it_a_limit_of_a_thousand_bytes_refuses_the_licence(
    server: Server, tmp_path: Path
) -> None:
    old, new = "LIMIT = 10 * 1000**3", "LIMIT = 1000"
    folder = changed(tmp_path, "file_upload", old, new)
    curl = shutil.which("curl") or need("curl", "apt-get install curl")
    digest = hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest()
    with uvicorn("recipes.file_upload:app", cwd=folder) as broken:
        for running, text in [(server, digest), (broken, "Content Too Large")]:
            command = [curl, "-q", "-sS", "-X", "POST", "-T", "LICENSE"]
            done = subprocess.run(
                [*command, f"{running.url}/uploads"],
                cwd=ROOT,
                capture_output=True,
                timeout=20,
            )
            assert text in done.stdout.decode()
            assert text in PAGE
