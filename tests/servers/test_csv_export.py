"""docs/recipes/csv_export.md: the export from a real server, byte by byte."""

import csv
import io
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote

import httpx2
import pytest

from cookbook.catalog import ROOT
from recipes.csv_export import CHUNK, Order
from tests.kit import clients, servers
from tests.kit.changed import changed
from tests.kit.servers import WAIT, Server, need, raw_get, uvicorn

pytestmark = pytest.mark.timeout(servers.START + 10)
PAGE = ROOT / "docs/recipes/csv_export.md"


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


@pytest.fixture(scope="module")
def flooding() -> Iterator[Server]:
    with uvicorn("tests.servers.flooding_csv_export:app") as running:
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
    """Attack: A file name with a line end: it adds no header field."""
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


def test_curl_reads_only_the_name_without_letters_of_other_scripts(
    server: Server, tmp_path: Path
) -> None:
    told = PAGE.read_text("utf-8")
    asked, saved = "Bestellungen für Zoë", "Bestellungen f_r Zo_.csv"
    assert f"`{asked}`, which an address carries in" in told
    assert f"becomes `{saved}`" in told
    assert (
        f"curl -OJ 'http://127.0.0.1:8000/orders.csv?rows=5&name={quote(asked)}'"
        in told
    )
    curl = shutil.which("curl") or need("curl", "apt-get install curl")
    url = f"{server.url}/orders.csv?rows=1&name={quote(asked)}"
    subprocess.run([curl, "-sS", "-OJ", url], cwd=tmp_path, check=True, timeout=30)
    assert [path.name for path in tmp_path.iterdir()] == [saved]


def test_ps_shows_that_the_memory_stays_where_it_is(server: Server) -> None:
    ps = shutil.which("ps") or need("ps", "apt-get install procps")
    number = re.search(r"Started server process \[(\d+)\]", server.output())
    assert number

    def memory() -> int:
        """Give the server's memory in kB."""
        command = [ps, "-o", "rss=", "-p", number[1]]
        assert "`ps -o rss= -p`" in PAGE.read_text("utf-8")
        return int(subprocess.run(command, capture_output=True, check=True).stdout)

    with raw_get(server.port, "/orders.csv?rows=10000000") as answer:
        sizes = [len(answer.chunk()) for _ in range(50)]
        before = memory()
        sizes += [len(answer.chunk()) for _ in range(400)]
        assert sum(sizes) > 25_000_000
        assert memory() < before + 10_000


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


def stall(server: Server, *, abort: bool) -> None:
    """Stop reading inside a chunk that no buffer can hold, and then leave."""
    with raw_get(server.port, "/orders.csv?rows=10000000") as answer:
        answer.chunk()
        answer.stream.readline()  # The length of the chunk: all of it is on its way.
        if abort:
            answer.abort()


@pytest.mark.parametrize("abort", [False, True])
def test_uvicorn_logs_nothing_about_clients_that_leave_or_stall(
    flooding: Server, abort: bool
) -> None:
    for _ in range(40):
        stall(flooding, abort=abort)
        with raw_get(flooding.port, "/orders.csv?rows=10000000") as answer:
            answer.chunk()
            if abort:
                answer.abort()
    with raw_get(flooding.port, "/orders.csv?rows=1") as answer:
        answer.rest()
    lines = flooding.output().splitlines()
    assert sum("GET /orders.csv" in line for line in lines) >= 81
    assert [line for line in lines if not line.startswith("INFO: ")] == []


STOPPING = "Waiting for connections to close. (CTRL+C to force quit)"
GIVEN_UP = "ERROR:    Cancel 1 running task(s), timeout graceful shutdown exceeded"


def test_ctrl_c_waits_for_a_stalled_download_until_the_client_leaves() -> None:
    with uvicorn("tests.servers.flooding_csv_export:app") as server:
        with raw_get(server.port, "/orders.csv") as answer:
            answer.chunk()
            answer.stream.readline()
            server.signal(signal.SIGINT)
            server.expect(STOPPING)
            with pytest.raises(AssertionError, match="did not end"):
                server.wait(1)
        assert server.wait() == 0
        assert "ERROR" not in server.output()


def test_with_a_limit_ctrl_c_ends_the_server_and_uvicorn_logs_why() -> None:
    option = "--timeout-graceful-shutdown"
    told = PAGE.read_text("utf-8")
    assert f"{option} 5" in told
    assert GIVEN_UP.removeprefix("ERROR:    ") in told
    with (
        uvicorn("tests.servers.flooding_csv_export:app", option, "1") as server,
        raw_get(server.port, "/orders.csv") as answer,
    ):
        answer.chunk()
        answer.stream.readline()
        server.signal(signal.SIGINT)
        assert server.wait() == 0
    log = server.output()
    assert STOPPING in log
    assert log.count("ERROR:") == 2
    assert GIVEN_UP in log
    assert "ERROR:    Exception in ASGI application\nTraceback" in log
    assert log.rstrip().endswith(
        "CancelledError: Task cancelled, timeout graceful shutdown exceeded"
    )


def test_a_second_ctrl_c_ends_the_server_at_once() -> None:
    with (
        uvicorn("tests.servers.flooding_csv_export:app") as server,
        raw_get(server.port, "/orders.csv") as answer,
    ):
        answer.chunk()
        answer.stream.readline()
        server.signal(signal.SIGINT)
        server.expect(STOPPING)
        server.signal(signal.SIGINT)
        assert server.wait() == 0


def test_break_it_a_chunk_of_one_character_carries_one_row(
    server: Server, tmp_path: Path
) -> None:
    folder = changed(tmp_path, "csv_export", "CHUNK = 64 * 1024", "CHUNK = 1")
    command, name = "python docs/clients/csv_export_chunks.py", "csv_export_chunks.py"
    page = PAGE.read_text("utf-8")
    assert command in page
    with uvicorn("recipes.csv_export:app", cwd=folder) as broken:
        for running, counts in [
            (server, "7 chunks, 346,686 bytes"),
            (broken, "5,001 chunks, 346,686 bytes"),
        ]:
            assert clients.run(name, running.url, tmp_path).stdout == f"{counts}\n"
            assert counts in page


def test_the_python_client_saves_the_export_piece_by_piece(
    server: Server, tmp_path: Path
) -> None:
    done = clients.run("csv_export.py", server.url, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    *pieces, before, last = done.stdout.splitlines()
    assert len(pieces) >= 5
    assert (before, last) == ("346,686 bytes", "saved as orders.csv")
    assert not (tmp_path / "orders.csv.part").exists()
    with (tmp_path / "orders.csv").open(encoding="utf-8", newline="") as table:
        assert len(list(csv.reader(table, strict=True))) == 5001


def test_an_export_that_breaks_off_never_gets_its_name(
    failing: Server, tmp_path: Path
) -> None:
    done = clients.run("csv_export.py", failing.url, tmp_path)
    assert done.returncode == 1
    assert "incomplete chunked read" in done.stderr
    assert not (tmp_path / "orders.csv").exists()
    assert (tmp_path / "orders.csv.part").stat().st_size > CHUNK


@pytest.mark.parametrize("name", ["csv_export.py", "csv_export_chunks.py"])
def test_a_client_says_why_it_was_refused(
    server: Server, name: str, tmp_path: Path
) -> None:
    client = clients.copied(name, server.url, tmp_path)
    source = client.read_text("utf-8")
    client.write_text(source.replace("rows=5000", "rows=0"), "utf-8")
    command = [sys.executable, str(client)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=20)
    assert done.returncode == 1
    assert b"422" in done.stderr
    assert done.stdout == b""
    assert not list(tmp_path.glob("*.csv*"))


@pytest.mark.parametrize(
    ("name", "saved"),
    [
        (".htaccess", "_.htaccess.csv"),
        ("-rf", "_-rf.csv"),
        ("CON", "_CON.csv"),
        ("COM1.txt", "_COM1.txt.csv"),
        ("../../etc/passwd", "_.._.._etc_passwd.csv"),
        ("orders. ", "orders. .csv"),
        ("🍵" * 60, f"{'_' * 60}.csv"),
    ],
)
def test_curl_saves_any_name_under_a_harmless_one(
    server: Server, name: str, saved: str, tmp_path: Path
) -> None:
    curl = shutil.which("curl") or need("curl", "apt-get install curl")
    url = f"{server.url}/orders.csv?rows=1&name={quote(name, safe='')}"
    subprocess.run([curl, "-sS", "-OJ", url], cwd=tmp_path, check=True, timeout=30)
    assert [path.name for path in tmp_path.iterdir()] == [saved]


def test_curl_exits_with_18_and_keeps_half_an_export_unless_told_not_to(
    failing: Server, tmp_path: Path
) -> None:
    curl = shutil.which("curl") or need("curl", "apt-get install curl")
    url = f"{failing.url}/orders.csv?rows=5000"
    for option, kept in [("--no-remove-on-error", 1), ("--remove-on-error", 0)]:
        command = [curl, "-s", option, "-o", "orders.csv", url]
        assert subprocess.run(command, cwd=tmp_path, timeout=30).returncode == 18
        assert len(list(tmp_path.iterdir())) == kept
