"""docs/reading/python.md and curl.md: each client and command does what they say."""

import hashlib
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

import httpx2
import pytest

from cookbook.catalog import ROOT
from tests.kit import clients, reading
from tests.kit.servers import HOST, START, WAIT, Server, need, uvicorn

pytestmark = pytest.mark.timeout(START + 30)

KEPT = "-o orders.txt.part --etag-save orders.txt.etag"  # by curl
SIZE = 1_000_000  # bytes of the file
OLD = bytes(range(250)) * (SIZE // 250)
NEW = OLD[::-1]


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def download(url: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the client in a folder, with short pauses."""
    source = clients.copied("file_download_progress.py", url, folder)
    text = source.read_text("utf-8")
    assert "PAUSE = 1.0 " in text
    source.write_text(text.replace("PAUSE = 1.0 ", "PAUSE = 0.001 "), "utf-8")
    return subprocess.run(
        [sys.executable, str(source)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=clients.WAIT,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder that the recipe sends files from."""
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def files(folder: Path) -> Iterator[Server]:
    """Run the recipe that sends files."""
    env = {"FILES_DIR": str(folder)}
    with uvicorn("recipes.file_download:app", env=env) as running:
        yield running


@contextmanager
def cutting(
    port: int, limits: list[int], cut: Callable[[], None] = lambda: None
) -> Iterator[tuple[str, list[bytes]]]:
    """Pass connections on; the first ones break after so many bytes of the answer.

    `cut` is called after each break. Gives the address and the heads of the requests.
    """
    heads: list[bytes] = []
    waiting = list(limits)

    def relay(client: socket.socket) -> None:
        with socket.create_connection((HOST, port), WAIT) as server:
            head = client.recv(65536)
            heads.append(head)
            # A connection for each request, so that each of them can be cut.
            head = head.replace(b"Connection: keep-alive\r\n", b"")
            server.sendall(head.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            left = waiting.pop(0) if waiting else SIZE * 2
            breaks = left < SIZE * 2
            while left and (piece := server.recv(min(left, 65536))):
                client.sendall(piece)
                left -= len(piece)
        if breaks:
            cut()

    def accept(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client:
                    client.settimeout(WAIT)
                    relay(client)

    with socket.create_server((HOST, 0)) as listener:
        thread = Thread(target=accept, args=(listener,))
        thread.start()
        yield f"http://{HOST}:{listener.getsockname()[1]}", heads
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def ranges(heads: list[bytes]) -> list[int]:
    """Give the place from which each request asks."""
    places = []
    for head in heads:
        fields = head.decode("latin-1").lower().split("\r\n")
        asked = [f for f in fields if f.startswith("range: bytes=")]
        places.append(int(asked[0][13:-1]) if asked else 0)
    return places


def test_a_download_that_breaks_goes_on_and_is_whole(
    files: Server, folder: Path, tmp_path: Path
) -> None:
    (folder / "orders.txt").write_bytes(OLD)
    with cutting(files.port, [20, 1000, 300_000, 400_001]) as (url, heads):
        done = download(url, tmp_path)
    assert done.returncode == 0, done.stderr
    assert digest((tmp_path / "orders.txt").read_bytes()) == digest(OLD)
    places = ranges(heads)
    assert len(places) == 5
    assert places[:2] == [0, 0], "the first break is in the head"
    assert 0 < places[2] < 1000 < places[3] < 300_000 + 1000 < places[4] < SIZE
    assert b"if-range" not in heads[0].lower()
    assert all(b"if-range" in head.lower() for head in heads[2:])
    assert list(tmp_path.glob("*.part")) == list(tmp_path.glob("*.etag")) == []
    assert "1.0/1.0 MB" in done.stdout


def test_a_file_that_has_changed_is_not_glued_to_the_old_one(
    files: Server, folder: Path, tmp_path: Path
) -> None:
    (folder / "orders.txt").write_bytes(OLD)

    def change() -> None:
        # Another inode: the old file may still be open.
        (folder / "new").write_bytes(NEW)
        (folder / "new").replace(folder / "orders.txt")

    with cutting(files.port, [500_000], change) as (url, heads):
        done = download(url, tmp_path)
    assert done.returncode == 0, done.stderr
    assert ranges(heads)[1] > 400_000, "it asked for the rest"
    assert digest((tmp_path / "orders.txt").read_bytes()) == digest(NEW)


def test_it_goes_on_when_it_is_started_again_and_gives_up_at_last(
    files: Server, folder: Path, tmp_path: Path
) -> None:
    (folder / "orders.txt").write_bytes(OLD)
    with cutting(files.port, [300_000, 0, 0, 0, 0, 0]) as (url, _):
        first = download(url, tmp_path)
    assert first.returncode == 1
    assert "Not complete, start it again later" in first.stderr
    part = tmp_path / "orders.txt.part"
    assert OLD.startswith(part.read_bytes())
    assert part.stat().st_size > 200_000
    second = download(files.url, tmp_path)
    assert second.returncode == 0
    assert digest((tmp_path / "orders.txt").read_bytes()) == digest(OLD)


def test_after_what_curl_has_fetched_it_says_where_it_goes_on(
    files: Server, folder: Path, tmp_path: Path
) -> None:
    _ = shutil.which("curl") or need("curl", "apt-get install curl")
    page = (ROOT / "docs/reading/python.md").read_text("utf-8")
    command = f"curl -H 'Range: bytes=0-9999999' {KEPT} {clients.PRINTED}/files/"
    assert f"\n{command}orders.txt\n" in page
    assert "It says `going on after 10,000,000 bytes`" in page
    (folder / "orders.txt").write_bytes(OLD)
    line = command.replace(clients.PRINTED, files.url).replace("9999999", "9999")
    subprocess.run(["sh", "-c", f"{line}orders.txt"], cwd=tmp_path, check=True)
    done = download(files.url, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "going on after 10,000 bytes" in done.stdout
    assert digest((tmp_path / "orders.txt").read_bytes()) == digest(OLD)


@pytest.mark.parametrize(("kept", "status"), [(SIZE, "whole"), (SIZE + 5, "longer")])
def test_nothing_after_what_is_here_is_the_end_or_a_fresh_start(
    files: Server, folder: Path, tmp_path: Path, kept: int, status: str
) -> None:
    (folder / "orders.txt").write_bytes(OLD)
    etag = httpx2.head(f"{files.url}/files/orders.txt").headers["ETag"]
    (tmp_path / "orders.txt.part").write_bytes((OLD + b"12345")[:kept])
    (tmp_path / "orders.txt.etag").write_text(etag, "ascii")
    with cutting(files.port, []) as (url, heads):
        done = download(url, tmp_path)
    assert done.returncode == 0, done.stderr
    assert digest((tmp_path / "orders.txt").read_bytes()) == digest(OLD)
    assert ranges(heads) == [SIZE] if status == "whole" else [SIZE + 5, 0]


# curl -------------------------------------------------------------------------------

BIG = 20_000_000  # bytes; more than the page's limit lets through in a second
CURL = (ROOT / "docs/reading/curl.md").read_text("utf-8")


@pytest.fixture(scope="module")
def addresses(files: Server) -> Iterator[dict[str, str]]:
    """Run the recipes that the commands ask."""
    with (
        uvicorn("recipes.sse_basic:app") as events,
        uvicorn("recipes.stream_limits:app") as limits,
    ):
        yield {
            "file_download": files.url,
            "sse_basic": events.url,
            "stream_limits": limits.url,
        }


def bash(line: str, url: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Type a command of the page; the output holds stderr, too."""
    return subprocess.run(
        ["bash", "-c", line.replace(reading.HERE, url)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=WAIT,
    )


def test_the_page_has_these_commands_and_what_one_sees() -> None:
    printed = re.findall("^curl .*", CURL.replace("\\\n", " "), re.MULTILINE)
    lines = [" ".join(line.split()) for line in printed]
    assert lines == [command.line for command in reading.COMMANDS]
    for command in reading.COMMANDS:
        assert command.sees.strip() in CURL
        assert not command.code or f"| {command.code} |" in CURL


def test_each_command_does_what_the_page_says(
    addresses: dict[str, str], folder: Path, tmp_path: Path
) -> None:
    file, here = folder / "orders.txt", tmp_path / "orders.txt"
    file.write_bytes(OLD * (BIG // SIZE))
    for command in reading.COMMANDS:
        if "If-Range" in command.line:
            here.write_bytes(file.read_bytes()[:SIZE])
            same = bash(command.line, addresses[command.recipe], tmp_path)
            assert same.returncode == 0
            assert here.read_bytes() == file.read_bytes()
            # What the page says next is said of a file that changes in a break.
            here.write_bytes(file.read_bytes()[:SIZE])
            file.write_bytes(NEW * (BIG // SIZE))
        if "-OJ" in command.line:
            assert here.stat().st_size == SIZE, "nothing was added to it"
            refused = bash(command.line, addresses[command.recipe], tmp_path)
            assert refused.returncode == 23
            assert "| 23 |" in CURL
            here.unlink()
        done = bash(command.line, addresses[command.recipe], tmp_path)
        assert done.returncode == command.code, f"{command.line}\n{done.stdout}"
        assert command.sees in done.stdout, f"{command.line}\n{done.stdout}"
        if command.code == 28 and command.recipe == "file_download":
            assert 0 < here.stat().st_size < BIG
        if command.line.startswith("curl -C - -o orders.txt http"):
            assert here.read_bytes() == file.read_bytes()
    assert here.read_bytes() == file.read_bytes()


def test_without_if_range_curl_glues_two_files_together(
    files: Server, folder: Path, tmp_path: Path
) -> None:
    (folder / "orders.txt").write_bytes(NEW)
    (tmp_path / "orders.txt").write_bytes(OLD[:1000])
    line = f"curl -C - -o orders.txt {reading.FILE}"
    assert bash(line, files.url, tmp_path).returncode == 0
    assert (tmp_path / "orders.txt").read_bytes() == OLD[:1000] + NEW[1000:]


def test_a_stream_that_is_cut_ends_curl_with_18(
    files: Server, folder: Path, tmp_path: Path
) -> None:
    (folder / "orders.txt").write_bytes(OLD)
    with cutting(files.port, [5000]) as (url, _):
        done = bash(f"curl -o orders.txt {reading.FILE}", url, tmp_path)
    assert done.returncode == 18
    assert "| 18 |" in CURL
