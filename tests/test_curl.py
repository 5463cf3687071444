"""curl's commands, as recipes print them, mean here what they mean to curl."""

import http.server
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cookbook.curl import Request, request
from tests.kit.servers import in_a_thread, need

Seen = tuple[str, str, dict[str, str], bytes]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a file to upload."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "orders.ndjson").write_bytes(b'{"id": 1}\r\n{"id": 2}\n')
    return folder


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[int, list[Seen]]]:
    """Listen on a free port and note every request."""
    seen: list[Seen] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            fields = {name.lower(): value for name, value in self.headers.items()}
            seen.append((self.command, self.path, fields, body))
            self.send_response(204)
            self.end_headers()

        do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    listening = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    with in_a_thread(listening):
        yield listening.server_port, seen


LINES = [
    "curl -N http://127.0.0.1:8000/async/1",
    "curl http://127.0.0.1:8000",
    "curl -N 'http://127.0.0.1:8000/tea?sort=green&cups=2'",
    "curl -sS -i -o tea.txt http://127.0.0.1:8000/tea",
    "curl -N -H 'Last-Event-ID: 7' -H \"Accept: text/plain\" http://127.0.0.1:8000/e",
    "curl -X DELETE http://127.0.0.1:8000/jobs/7",
    'curl -N http://127.0.0.1:8000/chat --json \'{"text": "crème"}\'',
    "curl --json @orders.ndjson http://127.0.0.1:8000/chat",
    "curl -d a=1 http://127.0.0.1:8000/form",
    "curl --data-binary @orders.ndjson -H 'Content-Type: application/x-ndjson' "
    "http://127.0.0.1:8000/lines",
    "curl -T orders.ndjson http://127.0.0.1:8000/files/7",
    "curl --max-time 5 http://127.0.0.1:8000/ticks",
    "curl -C 5 http://127.0.0.1:8000/files/tea",
    "curl -OJ http://127.0.0.1:8000/files/tea",
    "curl --etag-save tea.etag -o tea.part http://127.0.0.1:8000/files/tea",
    "curl --limit-rate 4M -C - -o tea.part http://127.0.0.1:8000/files/tea",
    "curl -c jar.txt -d a=1 http://127.0.0.1:8000/sign-in",
    "curl -b jar.txt -N http://127.0.0.1:8000/events",
    "curl -N --speed-limit 1 --speed-time 2 http://127.0.0.1:8000/ticks",
]


@pytest.mark.parametrize("line", LINES)
def test_a_line_is_read_as_curl_reads_it(
    line: str, server: tuple[int, list[Seen]], folder: Path
) -> None:
    curl = shutil.which("curl") or need("curl", "apt-get install curl")
    port, seen = server
    command = line.replace(":8000", f":{port}")
    subprocess.run(
        ["sh", "-c", command.replace("curl", f"{curl} -q", 1)],
        cwd=folder,
        check=True,
        capture_output=True,
        timeout=20,
    )
    method, path, fields, body = seen.pop()
    read = request(line, folder)
    assert (read.method, read.path, read.body) == (method, path, body)
    assert read.headers.items() <= fields.items()
    # What else curl sends it sends with every request, or it is the body's length.
    rest = fields.keys() - read.headers.keys()
    assert rest <= {"host", "user-agent", "accept", "content-length", "expect"}


def test_a_form_carries_its_file(folder: Path) -> None:
    line = "curl -F file=@orders.ndjson -F note=tea http://127.0.0.1:8000/upload"
    read = request(line, folder)
    kind, _, boundary = read.headers["content-type"].partition("; boundary=")
    assert (read.method, kind) == ("POST", "multipart/form-data")
    file, note = read.body.split(f"--{boundary}".encode())[1:3]
    assert b'name="file"; filename="orders.ndjson"' in file
    assert file.endswith(b'\r\n\r\n{"id": 1}\r\n{"id": 2}\n\r\n')
    assert note.endswith(b'name="note"\r\n\r\ntea\r\n')


def test_max_time_is_kept_for_endless_streams(folder: Path) -> None:
    line = "curl --max-time 2.5 http://127.0.0.1:8000/ticks"
    assert request(line, folder) == Request("/ticks", seconds=2.5)


def test_a_jar_is_named_by_who_sends_its_cookies(folder: Path) -> None:
    read = request("curl -b jar.txt http://127.0.0.1:8000/ticks", folder)
    assert read == Request("/ticks", jar=True)
    assert not request("curl -c jar.txt http://127.0.0.1:8000/ticks", folder).jar


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("wget http://127.0.0.1:8000/", "is no curl command"),
        ("", "is no curl command"),
        ("curl --socks5 x http://127.0.0.1:8000/", "unrecognized arguments: --socks5"),
        ("curl -N", "the following arguments are required: url"),
    ],
)
def test_a_line_that_is_not_understood_is_refused(
    line: str, complaint: str, folder: Path
) -> None:
    with pytest.raises(ValueError, match=complaint):
        request(line, folder)


def test_a_file_that_is_missing_is_an_error(folder: Path) -> None:
    with pytest.raises(FileNotFoundError):
        request("curl -T none.txt http://127.0.0.1:8000/", folder)
