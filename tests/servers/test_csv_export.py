"""docs/recipes/csv_export.md: the export from a real server, byte by byte."""

import csv
import io
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote

import httpx2
import pytest

from recipes.csv_export import CHUNK, Order
from tests.kit import servers
from tests.kit.servers import WAIT, Server, need, raw_get, uvicorn

pytestmark = pytest.mark.timeout(servers.START + 10)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with uvicorn("recipes.csv_export:app") as running:
        yield running


@pytest.fixture(scope="module")
def failing() -> Iterator[Server]:
    with uvicorn("tests.servers.failing_csv_export:app") as running:
        yield running


@pytest.fixture(scope="module")
def careless() -> Iterator[Server]:
    with uvicorn("recipes.pitfalls.csv_export.filename_from_the_client:app") as running:
        yield running


def test_ten_million_rows_begin_to_arrive_at_once(server: Server) -> None:
    # Were they gathered first, the wait for the first chunk would end in its limit.
    with raw_get(server.port, "/orders.csv?rows=10000000") as answer:
        assert answer.chunk() == ",".join(Order._fields).encode() + b"\r\n"
        for _ in range(3):
            assert CHUNK <= len(answer.chunk()) < CHUNK * 1.1


def test_a_client_that_left_costs_the_next_one_nothing(server: Server) -> None:
    with raw_get(server.port, "/orders.csv?rows=10000000") as answer:
        answer.chunk()
        answer.abort()
    with raw_get(server.port, "/orders.csv?rows=5000") as answer:
        chunks = list(iter(answer.chunk, b""))
    assert len(chunks) == 7
    table = io.StringIO(b"".join(chunks).decode(), newline="")
    assert len(list(csv.reader(table, strict=True))) == 5001


def test_a_table_that_fails_leaves_the_body_without_its_last_chunk(
    failing: Server,
) -> None:
    with raw_get(failing.port, "/orders.csv?rows=5000") as answer:
        assert answer.head.startswith("HTTP/1.1 200 OK\r\n")
        answer.chunk()
        answer.chunk()
        with pytest.raises(EOFError, match="cut off"):
            answer.rest()
    failing.expect("the table is gone")


def test_a_table_that_fails_is_an_error_to_a_python_client(failing: Server) -> None:
    url = f"http://127.0.0.1:{failing.port}/orders.csv?rows=5000"
    with httpx2.stream("GET", url) as response:
        assert response.status_code == 200
        chunks = response.iter_bytes()
        assert next(chunks).startswith(b"id,")
        with pytest.raises(httpx2.RemoteProtocolError, match="incomplete chunked read"):
            list(chunks)


def disposition(server: Server, name: str) -> tuple[str, str]:
    """Ask for a name and read both names that the raw header gives."""
    path = f"/orders.csv?rows=1&name={quote(name, safe='')}"
    with raw_get(server.port, path) as answer:
        assert answer.head.startswith("HTTP/1.1 200 OK\r\n")
        assert answer.rest().startswith(b"id,")
    fields = [line.partition(": ")[0] for line in answer.head.splitlines()[1:]]
    usual = ["content-disposition", "content-type", "date", "server"]
    assert sorted(fields) == [*usual, "transfer-encoding"]
    found = re.search(
        r"^content-disposition: attachment; "
        r"filename=\"([ -~]*)\"; filename\*=UTF-8''([!-~]*)\r$",
        answer.head,
        re.MULTILINE,
    )
    assert found, answer.head
    return found[1], unquote(found[2], errors="strict")


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("Bestellungen für Zoë", "Bestellungen f_r Zo_"),
        ("注文", "__"),
        ("заказы", "______"),
        ("100 €", "100 _"),
    ],
)
def test_a_name_in_any_script_arrives_whole(
    server: Server, name: str, plain: str
) -> None:
    assert disposition(server, name) == (f"{plain}.csv", f"{name}.csv")


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r"], ids=repr)
def test_a_name_with_a_line_end_adds_no_header_field(server: Server, end: str) -> None:
    safe = f"x{'_' * len(end)}Set-Cookie_ a=b.csv"
    assert disposition(server, f"x{end}Set-Cookie: a=b") == (safe, safe)


def test_curl_saves_the_export_under_the_name_that_it_asked_for(
    server: Server, tmp_path: Path
) -> None:
    curl = shutil.which("curl") or need("curl", "apt-get install curl")
    url = f"http://127.0.0.1:{server.port}/orders.csv?rows=5000&name=spring"
    subprocess.run([curl, "-sS", "-OJ", url], cwd=tmp_path, check=True, timeout=30)
    assert [path.name for path in tmp_path.iterdir()] == ["spring.csv"]
    with (tmp_path / "spring.csv").open(encoding="utf-8", newline="") as table:
        assert len(list(csv.reader(table, strict=True))) == 5001


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r"], ids=repr)
def test_without_its_care_a_line_end_in_the_name_drops_the_connection(
    careless: Server, end: str
) -> None:
    # Not one byte comes back, not even a status, although the log claims a 200.
    request = f"GET /orders.csv?name={quote(f'x{end}Set-Cookie: a=b')} HTTP/1.1\r\n"
    with socket.create_connection(("127.0.0.1", careless.port), WAIT) as connection:
        connection.sendall(f"{request}Host: 127.0.0.1\r\n\r\n".encode("ascii"))
        assert connection.recv(1) == b""
    assert "200 OK" in careless.expect("RuntimeError: Invalid HTTP header value.")
    with raw_get(careless.port, "/orders.csv?name=spring") as answer:
        assert answer.head.startswith("HTTP/1.1 200 OK\r\n")
