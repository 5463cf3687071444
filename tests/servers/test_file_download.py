"""docs/recipes/file_download.md: curl, REDbot and attackers against a real server."""

import hashlib
import os
import random
import re
import shlex
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from configparser import ConfigParser
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from urllib.parse import quote

import pytest

from cookbook.catalog import ROOT
from recipes.file_download import CHUNK
from tests.kit import clients, servers
from tests.kit.changed import changed
from tests.kit.servers import WAIT, Server, need, raw_get, uvicorn

pytestmark = pytest.mark.timeout(servers.START + 10)

SIZE = 3 * CHUNK + 5
BYTES = random.Random(7).randbytes(SIZE)  # noqa: S311 - no secret
PAGE = (ROOT / "docs/recipes/file_download.md").read_text("utf-8")
MB = 1_000_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with a file, a link out of it, and a secret beside it."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "tea.bin").write_bytes(BYTES)
    (folder.parent / "secret.txt").write_bytes(b"the secret")
    (folder / "link.txt").symlink_to(folder.parent / "secret.txt")
    (folder / "zero").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    env = {"FILES_DIR": str(folder)}
    with uvicorn("recipes.file_download:app", env=env, warm=True) as running:
        yield running


@pytest.fixture(scope="module")
def samples() -> Iterator[Server]:
    with uvicorn("recipes.file_download:app", warm=True) as running:
        yield running


def curl(
    *arguments: str, cwd: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    program = shutil.which("curl") or need("curl", "apt-get install curl")
    command = [program, "-q", "-sS", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, timeout=30)


@contextmanager
def cut(server: Server, *sizes: int) -> Iterator[str]:
    """Stand between client and server, and cut each answer after so many bytes.

    The first connection gets `sizes[0]` bytes of its answer, head included, and so on;
    those after the last get all. Gives the address to ask.
    """
    left = [*sizes]

    def relay(client: socket.socket) -> None:
        with (
            client,
            socket.create_connection(("127.0.0.1", server.port), WAIT) as there,
        ):
            there.sendall(client.recv(65536))
            limit = left.pop(0) if left else SIZE * 2
            while limit and (piece := there.recv(min(limit, 65536))):
                client.sendall(piece)
                limit -= len(piece)

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                with suppress(OSError):
                    relay(client)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)


OFFSETS = [0, 10, 400, 501, 2000, CHUNK - 1, CHUNK, CHUNK + 500, 2 * CHUNK, SIZE - 1]


@pytest.mark.parametrize("offset", OFFSETS)
def test_curl_resumes_a_download_that_was_cut_anywhere(
    server: Server, tmp_path: Path, offset: int
) -> None:
    with cut(server, offset, 700) as address:
        url = f"{address}/files/tea.bin"
        codes = []
        for _ in range(5):
            done = curl("-C", "-", "-o", "tea.bin", "-H", "Connection: close", url,
                        cwd=tmp_path)  # fmt: skip
            codes.append(done.returncode)
            if done.returncode == 0:
                break
    assert codes[-1] == 0
    assert len(codes) == 3, codes
    found = (tmp_path / "tea.bin").read_bytes()
    assert hashlib.sha256(found).digest() == hashlib.sha256(BYTES).digest()


def test_curl_resumes_at_every_cut_of_a_long_row(
    server: Server, tmp_path: Path
) -> None:
    chance = random.Random(11)  # noqa: S311 - no secret
    sizes = [chance.randrange(400, 90_000) for _ in range(12)]
    with cut(server, *sizes) as address:
        for _ in range(13):
            done = curl("-C", "-", "-o", "tea.bin", "-H", "Connection: close",
                        f"{address}/files/tea.bin", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0
    assert (tmp_path / "tea.bin").read_bytes() == BYTES


def test_curl_has_nothing_to_do_when_the_file_is_complete(
    server: Server, tmp_path: Path
) -> None:
    url = f"{server.url}/files/tea.bin"
    for _ in range(2):
        assert curl("-C", "-", "-o", "tea.bin", url, cwd=tmp_path).returncode == 0
        assert (tmp_path / "tea.bin").read_bytes() == BYTES


def test_curl_mixes_two_versions_unless_it_says_which_one_it_has(
    server: Server, folder: Path, tmp_path: Path
) -> None:
    old, new = bytes(1000), b"\1" * 1000
    path, url = folder / "menu.bin", f"{server.url}/files/menu.bin"
    path.write_bytes(old)
    head = curl("-I", url).stdout.decode("latin-1")
    etag = re.search(r'etag: (".*")', head)
    assert etag
    part = tmp_path / "menu.bin"
    part.write_bytes(old[:500])
    path.unlink()
    path.write_bytes(new)
    os.utime(path, (1, 1))
    say = ["-C", "-", "-o", "menu.bin"]
    refused = curl(*say, "-H", f"If-Range: {etag[1]}", url, cwd=tmp_path)
    assert refused.returncode == 33
    assert part.read_bytes() == old[:500]
    assert curl(*say, url, cwd=tmp_path).returncode == 0
    assert part.read_bytes() == old[:500] + new[500:], "neither the one nor the other"
    path.unlink()


def test_a_file_that_shrinks_meanwhile_is_cut_short(
    server: Server, folder: Path
) -> None:
    path = folder / "log.bin"
    with path.open("wb") as file:
        file.truncate(64 * MB)  # more than all buffers on the way hold
    with raw_get(server.port, "/files/log.bin") as answer:
        assert f"content-length: {64 * MB}\r\n" in answer.head
        os.truncate(path, 10)
        assert len(answer.stream.read()) < 64 * MB
    server.expect("OSError: the file has changed while it was being sent")
    path.unlink()


def test_a_file_of_200_mb_takes_less_than_16_mb_of_memory(
    server: Server, folder: Path
) -> None:
    def most() -> int:
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+)", status)
        assert found
        return int(found[1]) * 1024

    path = folder / "large.bin"
    with path.open("wb") as file:
        file.truncate(200 * MB)
    done = curl("-o", os.devnull, f"{server.url}/files/tea.bin")
    assert done.returncode == 0
    before = most()
    with raw_get(server.port, "/files/large.bin") as stalled:
        assert stalled.head.startswith("HTTP/1.1 200 OK\r\n")
        url = f"{server.url}/files/large.bin"
        done = curl("-o", os.devnull, "-w", "%{size_download}", url)
        assert done.stdout == str(200 * MB).encode()
    assert most() - before < 16 * MB
    path.unlink()


def ask(port: int, request: bytes) -> bytes:
    """Send bytes as they are, and read the answer up to its end."""
    with socket.create_connection(("127.0.0.1", port), WAIT) as connection:
        connection.sendall(request)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer


ATTACKS = [
    b"/files/../secret.txt",
    b"/files/..%2fsecret.txt",
    b"/files/%2e%2e/secret.txt",
    b"/files/%2e%2e%2fsecret.txt",
    b"/files/%252e%252e%252fsecret.txt",
    b"/files/..%5csecret.txt",
    b"/files/..;/secret.txt",
    b"/files/....//secret.txt",
    b"/files//etc/passwd",
    b"/files/%2fetc%2fpasswd",
    b"/files/file:%2f%2f%2fetc%2fpasswd",
    b"/files/tea.bin%00",
    b"/files/%00",
    b"/files/link.txt",
    b"/files/zero",
    b"/files/pipe",
    b"/files/.",
    b"/files/..",
    b"/files/%c0%ae%c0%ae%c0%afsecret.txt",
    b"/files/%ff%fe",
    b"/files/tea.bin%0d%0aSet-Cookie:%20a=b",
    b"/files/" + b"a" * 5000,
]


@pytest.mark.parametrize("path", ATTACKS, ids=lambda path: path[:40].decode())
def test_no_attack_finds_a_file(server: Server, path: bytes) -> None:
    """Attack: A path of raw bytes, cleaned up by nobody: it finds no file."""
    request = b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = ask(server.port, request)
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"the secret" not in answer
    assert b"root:" not in answer
    assert b"set-cookie" not in answer.lower()


@pytest.mark.parametrize("path", [b"/files/\0", b"/files/a b", b"\\..\\secret.txt"])
def test_what_is_no_request_is_refused(server: Server, path: bytes) -> None:
    """Attack: A path with a NUL or a blank: 400."""
    request = b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert ask(server.port, request).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("name", ["Größen & Maße.txt", "注文.csv", '"x"; y.txt'])
def test_curl_saves_a_name_in_any_script(
    server: Server, folder: Path, tmp_path: Path, name: str
) -> None:
    (folder / name).write_bytes(b"content")
    with raw_get(server.port, f"/files/{quote(name)}") as answer:
        assert f"filename*=UTF-8''{quote(name, safe='')}\r\n" in answer.head
        assert answer.stream.read(7) == b"content"
    url = f"{server.url}/files/{quote(name)}"
    assert curl("-OJ", url, cwd=tmp_path).returncode == 0
    assert len(list(tmp_path.iterdir())) == 1
    (folder / name).unlink()


def test_a_name_with_a_line_end_is_not_served(server: Server, folder: Path) -> None:
    """Attack: A file on the disk with a line end in its name: 404."""
    path = folder / "a\r\nSet-Cookie: a=b"
    path.write_bytes(b"the secret")
    request = b"GET /files/a%0D%0ASet-Cookie%3A%20a%3Db HTTP/1.1\r\nHost: x\r\n"
    answer = ask(server.port, request + b"Connection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 404 ")
    path.unlink()


def test_redbot_finds_nothing_wrong(samples: Server) -> None:
    # Imported here, and by name: they are slow to import, and have no types.
    thor = import_module("thor")
    levels = import_module("httplint.note").levels
    config = ConfigParser()
    config.read_dict({"redbot": {"enable_local_access": "True"}})
    resource = import_module("redbot.resource").HttpResource(config["redbot"])
    resource.set_request(f"{samples.url}/files/orders.txt")
    resource.once("check_done", thor.stop)
    resource.check()
    thor.run()
    checks = [resource, *resource.subreqs.values()]
    notes = [note for check in checks for note in check.response.notes]
    wrong = [n.summary for n in notes if n.level in {levels.WARN, levels.BAD}]
    assert wrong == []
    said = {type(note).__name__ for note in notes}
    assert {"RANGE_CORRECT", "INM_304", "IMS_304", "CL_CORRECT"} <= said
    assert resource.partial_support
    assert resource.inm_support
    assert resource.ims_support


SHA256 = "8f01ede3c3d3234343c01b978f672c7cc785ae79b9a96d9eb5c17a88624dba47"


def test_the_python_client_goes_on_where_it_stopped(
    samples: Server, tmp_path: Path
) -> None:
    first = clients.run("file_download.py", samples.url, tmp_path)
    assert (first.returncode, first.stderr) == (0, "")
    start, *pieces, last = first.stdout.splitlines()
    assert (start, last) == ("beginning at the start", "saved as orders.txt")
    assert len(pieces) > 100
    whole = (tmp_path / "orders.txt").read_bytes()
    assert hashlib.sha256(whole).hexdigest() == SHA256
    assert SHA256 in PAGE
    etag = next(
        line.partition(": ")[2]
        for line in curl("-I", f"{samples.url}/files/orders.txt")
        .stdout.decode()
        .splitlines()
        if line.startswith("etag: ")
    )
    for tag, start in [
        (etag, "going on after 1,000,000 bytes"),
        ('"older"', "beginning at the start"),
    ]:
        (tmp_path / "orders.txt").unlink()
        (tmp_path / "orders.txt.part").write_bytes(whole[:MB])
        (tmp_path / "orders.txt.etag").write_text(tag)
        again = clients.run("file_download.py", samples.url, tmp_path)
        assert again.stdout.splitlines()[0] == start
        assert (tmp_path / "orders.txt").read_bytes() == whole
        assert not list(tmp_path.glob("orders.txt.*"))


def test_the_python_client_goes_on_after_what_curl_has_left(
    samples: Server, tmp_path: Path
) -> None:
    command = (
        "curl -H 'Range: bytes=0-9999999' -o orders.txt.part "
        "--etag-save orders.txt.etag http://127.0.0.1:8000/files/orders.txt"
    )
    assert f"    {command}\n" in PAGE
    words = shlex.split(command.replace("http://127.0.0.1:8000", samples.url))
    subprocess.run([words[0], "-q", *words[1:]], check=True, cwd=tmp_path, timeout=WAIT)
    again = clients.run("file_download.py", samples.url, tmp_path)
    said = "going on after 10,000,000 bytes"
    assert again.stdout.splitlines()[0] == said
    assert said in PAGE
    whole = (tmp_path / "orders.txt").read_bytes()
    assert hashlib.sha256(whole).hexdigest() == SHA256


def test_the_python_client_keeps_what_came_when_the_connection_breaks(
    server: Server, tmp_path: Path
) -> None:
    with cut(server, CHUNK) as address:
        client = clients.copied("file_download.py", address, tmp_path)
        source = client.read_text("utf-8").replace("/orders.txt", "/tea.bin")
        client.write_text(source, "utf-8")
        python = [shutil.which("python3", path=ROOT / ".venv/bin") or "python3"]
        runs = [
            subprocess.run([*python, str(client)], cwd=tmp_path, capture_output=True)
            for _ in range(2)
        ]
    assert [run.returncode for run in runs] == [1, 0]
    assert runs[1].stdout.startswith(b"going on after ")
    assert (tmp_path / "orders.txt").read_bytes() == BYTES


def test_break_it_without_ranges_curl_cannot_resume(
    samples: Server, tmp_path: Path
) -> None:
    old, new = 'if same and request.method == "GET":', "if False:"
    folder = changed(tmp_path, "file_download", old, new)
    command = "curl -C 33554368 http://127.0.0.1:8000/files/orders.txt"
    assert command in PAGE
    before = "order    524287 is packed, and the parcel is on its way to you."
    after = "curl: (33) HTTP server doesn't seem to support byte ranges. Cannot resume."
    with uvicorn("recipes.file_download:app", cwd=folder) as broken:
        for running, text in [(samples, before), (broken, after)]:
            url = f"{running.url}/files/orders.txt"
            done = curl("-C", "33554368", url)
            assert (done.stdout or done.stderr).decode().strip() == text
            assert text in PAGE
