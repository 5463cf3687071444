"""docs/recipes/stream_middleware.md: what the page says of real servers and clients."""

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cookbook.catalog import ROOT
from tests.kit import clients, servers
from tests.kit.changed import changed
from tests.kit.servers import START, Server, ask, raw_get, reset, uvicorn

pytestmark = pytest.mark.timeout(2 * START)
APP = "recipes.stream_middleware:app"
WATCHED = ("--factory", "tests.servers.watched_stream_middleware:uncollected")
FLOODING = ("--factory", "tests.servers.watched_stream_middleware:flooding")
PAGE = (ROOT / "docs/recipes/stream_middleware.md").read_text("utf-8")
PATHS = ("/orders", "/events")
LEAVE = ["--max-time", "0.8"]
QUICK = {"PAUSE": "0.1"}  # seconds of a page
Serve = Callable[..., AbstractContextManager[Server]]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Serve the recipe, for all tests that leave it as it is."""
    with uvicorn(*WATCHED) as running:
        yield running


def curl(url: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run curl as the page does."""
    program = shutil.which("curl") or servers.need("curl", "apt-get install curl")
    command = [program, "-q", "-sSN", *options, url]
    return subprocess.run(command, capture_output=True, text=True, timeout=20)


def told(line: str) -> str:
    """Leave out of a line of the log what is never the same."""
    line = re.sub(r"\d+\.\d{3} s", "- s", line)
    return re.sub(r"request [0-9a-f]{32}", "request -", line)


def counts(server: Server) -> dict[str, Any]:
    """Ask the watched recipe what there is now."""
    with raw_get(server.port, "/counts", {"Connection": "close"}) as answer:
        found: dict[str, Any] = json.loads(answer.stream.read())
    return found


def at_rest(server: Server) -> dict[str, Any]:
    """Wait until no request but the one for the counts is left; give the counts."""
    found: dict[str, Any] = {}

    def alone() -> bool:
        found.update(counts(server))
        return sum("run_asgi" in task for task in found["tasks"]) == 1

    servers.until(alone, "the other requests to end")
    return found


# What a reader types -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "options", "stderr", "counted", "end"),
    [
        ("/orders", [], "", "6 chunks, 234 bytes", "complete"),
        ("/orders?fail_at=4", [], "curl: (18)", "3 chunks, 117 bytes", "failed"),
        ("/events", LEAVE, "curl: (28)", "2 chunks, 92 bytes", "client left"),
    ],
)
def test_the_log_has_the_line_that_the_page_shows(
    target: str, options: list[str], stderr: str, counted: str, end: str, server: Server
) -> None:
    server.seen = len(server.output())
    done = curl(server.url + target, *options)
    assert stderr in done.stderr
    found = server.expect("; request ") + server.expect("\n")
    (last,) = [text for text in found.splitlines() if "first byte" in text]
    path = target.split("?")[0]
    line = f"{path} 200: first byte - s, {counted}, - s, {end}; request -"
    assert told(last.removeprefix("INFO:").strip()) == line
    assert f"- `{line}`" in told(PAGE)


def test_with_compression_the_line_has_the_counts_that_the_page_shows(
    server: Server,
) -> None:
    assert "curl -N --compressed http://127.0.0.1:8000/orders" in PAGE
    server.seen = len(server.output())
    plain = curl(f"{server.url}/orders").stdout
    server.expect("6 chunks, 234 bytes")
    assert curl(f"{server.url}/orders", "--compressed").stdout == plain
    counted = "7 chunks, 120 bytes"
    server.expect(counted)
    assert f"`{counted}`" in PAGE


def test_an_id_of_yours_is_in_the_log_and_in_the_answer(server: Server) -> None:
    done = curl(f"{server.url}/orders", "-i", "-H", "X-Request-ID: order-7-of-ada")
    assert "x-request-id: order-7-of-ada" in done.stdout
    assert "complete" in server.expect("request order-7-of-ada")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "serve", [uvicorn, servers.hypercorn, servers.granian], ids=lambda s: s.__name__
)
def test_every_server_tells_the_end_and_lets_the_chunks_through(
    serve: Serve, path: str, request: pytest.FixtureRequest
) -> None:
    running = request.getfixturevalue("others")[serve.__name__]
    with raw_get(running.port, path, {"X-Request-ID": "whole-it-is"}) as answer:
        # Here is the first, and two pages are still to be read.
        assert b'"id":1' in answer.chunk()
        assert b'"id":6' in answer.rest()
    with raw_get(running.port, path, {"X-Request-ID": "leaves-early"}) as answer:
        assert answer.chunk()
    servers.until(lambda: counts(running)["feeds"] == 0, "the feed to be closed")


@pytest.fixture(scope="module")
def others(server: Server) -> Iterator[dict[str, Server]]:
    """Serve the recipe by three servers."""
    app = "tests.servers.watched_stream_middleware:app"
    with (
        servers.hypercorn(app, env=QUICK) as one,
        servers.granian(app, env=QUICK) as two,
    ):
        yield {"uvicorn": server, "hypercorn": one, "granian": two}


# Attacks -----------------------------------------------------------------------------


IDS = {
    "CR": b"order-7\rX-Evil: 1",
    "LF": b"order-7\nX-Evil: 1",
    "CR LF": b"order-7-of-ada\r\nX-Evil: 1",
    "folded": b"order-7\r\n X-Evil: 1",
    "8 KB": b"e" * 8192,
    "Latin-1": b"commande-\xe9vil",
    "UTF-8": "订单-evil-7".encode(),
    "escape": b"evil-7\x1b[31m",
    "NUL": b"evil-7\x00",
    "two": b"evil-one\r\nX-Request-ID: evil-two",
    "forged": b"evil, complete; request 8",
}


@pytest.fixture(scope="module")
def h11() -> Iterator[Server]:
    """Serve the recipe with the other parser."""
    with uvicorn(APP, "--http", "h11") as running:
        yield running


@pytest.mark.parametrize("parser", ["server", "h11"])
@pytest.mark.parametrize("sent", IDS.values(), ids=IDS.keys())
def test_attack_raw_bytes_as_an_id_reach_neither_header_nor_log(
    sent: bytes, parser: str, request: pytest.FixtureRequest
) -> None:
    """An X-Request-ID of raw bytes: it reaches neither a header nor the log."""
    running = request.getfixturevalue(parser)
    running.seen = len(running.output())
    fields = b"X-Request-ID: " + sent + b"\r\n"
    # A wrong query is answered at once.
    with ask(running.port, "/orders?fail_at=x", fields) as connection:
        answer = b""
        while more := connection.recv(65_536):
            answer += more
    head = answer.partition(b"\r\n\r\n")[0].lower()
    assert head.split()[1] in {b"400", b"422"}, head
    assert b"evil" not in head
    if head.split()[1] == b"422":
        (given,) = re.findall(rb"x-request-id: (\S+)\r?\n?", head)
        assert given == b"order-7-of-ada" or re.fullmatch(b"[0-9a-f]{32}", given)
        running.expect(f"request {given.decode()}\n")
    # The parser itself refuses the others, before any application is asked.
    log = running.output()[running.seen - 200 :].lower()
    assert "evil" not in log
    assert "traceback" not in log
    assert "\x1b" not in log.replace("\x1b[0m", "").replace("\x1b[32m", "")


def test_attack_a_path_with_line_feeds_writes_no_line_of_its_own(
    server: Server,
) -> None:
    """A path with line feeds: it writes no line of its own into the log."""
    server.seen = len(server.output())
    done = curl(f"{server.url}/%0AINFO:%20%20%20%20%20forged%1B%5B31m")
    assert "Not Found" in done.stdout
    found = server.expect("no route 404: ")
    assert "\nINFO:     forged" not in found
    assert "\x1b[31m" not in found


# Clients that leave ------------------------------------------------------------------


def test_after_a_hundred_abrupt_disconnects_nothing_is_left(server: Server) -> None:
    for path in PATHS:
        assert curl(f"{server.url}{path}").returncode == 0
    before = at_rest(server)
    server.seen = len(server.output())
    for path in PATHS:
        asked = [ask(server.port, path) for _ in range(50)]
        for number, connection in enumerate(asked):
            if number % 2:
                assert connection.recv(1000)
            reset(connection)
    servers.until(lambda: counts(server) == before, f"{before}")
    log = server.output()[server.seen :]
    assert 50 <= log.count("client left") <= 100
    assert "Traceback" not in log
    assert "ERROR" not in log


@pytest.mark.parametrize("headers", [b"", b"Accept-Encoding: gzip\r\n"])
@pytest.mark.parametrize("path", PATHS)
def test_nor_after_clients_that_never_read(
    path: str, headers: bytes, flooded: Server
) -> None:
    with ask(flooded.port, path) as connection:
        assert connection.recv(1)
    servers.until(lambda: counts(flooded)["feeds"] == 0, "the feed to be closed")
    before = at_rest(flooded)
    asked = [ask(flooded.port, path, headers) for _ in range(5)]
    for connection in asked:
        assert connection.recv(1)
    for connection in asked:
        reset(connection)
    servers.until(lambda: counts(flooded) == before, f"{before}")
    assert "Traceback" not in flooded.output()


@pytest.fixture(scope="module")
def flooded() -> Iterator[Server]:
    """Serve orders that fill every buffer."""
    with uvicorn(*FLOODING) as running:
        yield running


def test_a_server_that_stops_gives_its_streams_up_and_does_not_wait_for_the_line() -> (
    None
):
    stop = ("--timeout-graceful-shutdown", "1")
    with (
        uvicorn(*FLOODING, *stop) as running,
        ask(running.port, "/orders") as connection,
    ):
        assert connection.recv(1)
        running.signal(signal.SIGTERM)
        running.wait()
        assert "Cancel 1 running task(s)" in running.output()
        # It may be there: uvicorn ends when it likes.
        assert "complete;" not in running.output()


def test_each_of_two_workers_writes_the_lines_of_its_own_streams() -> None:
    app = "tests.servers.watched_stream_middleware:app"
    with uvicorn(app, "--workers", "2", env=QUICK) as running:
        pids: set[int] = set()

        def both() -> bool:
            pids.add(counts(running)["pid"])
            return len(pids) == 2

        servers.until(both, "an answer of each worker", START)
        names = [f"order-{number:03}" for number in range(12)]
        answers = [
            ask(running.port, "/orders", f"X-Request-ID: {name}\r\n".encode())
            for name in names
        ]
        for name, connection in zip(names, answers, strict=True):
            with connection, connection.makefile("rb") as stream:
                assert name.encode() in stream.read()
        for name in names:
            running.seen = 0
            running.expect(f"complete; request {name}\n")


# Clients, spans, and what the page lets a reader break -------------------------------


@pytest.mark.parametrize("name", ["stream_middleware.py", "stream_middleware.mjs"])
def test_a_client_prints_the_id_and_each_order_as_it_comes(
    name: str, server: Server, tmp_path: Path
) -> None:
    done = clients.run(name, server.url, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    first, *lines = done.stdout.splitlines()
    found = re.fullmatch(r"request ([\w-]{16,}), gzip", first)
    assert found, first
    assert [json.loads(line[line.index("{") :])["id"] for line in lines] == [
        *range(1, 7)
    ]
    assert "complete" in server.expect(f"request {found[1]}\n")
    if name.endswith(".py"):
        times = [float(line.split(" s")[0]) for line in lines]
        assert times[-1] - times[0] >= 0.9  # They did not come at once.


@pytest.mark.parametrize("name", ["stream_middleware.py", "stream_middleware.mjs"])
def test_a_client_checks_the_status_first(name: str, tmp_path: Path) -> None:
    with uvicorn("recipes.plain_text:app") as other:
        done = clients.run(name, other.url, tmp_path)
    assert done.returncode == 1
    assert "404" in done.stderr
    assert done.stdout == ""


def test_the_program_of_the_page_prints_the_spans(tmp_path: Path) -> None:
    port = servers.free_port()
    name = "stream_middleware_spans.py"
    program = clients.copied(name, f"http://127.0.0.1:{port}", tmp_path)
    with servers.serve([sys.executable, "-u", str(program)], port) as running:
        curl(f"{running.url}/orders")
        running.expect("span 'stream'")
        running.expect("\n")
        lines = [x for x in running.output().splitlines() if x.startswith("span")]
    names = [line.split("'")[1] for line in lines]
    pages = ["read a page"] * 3
    assert names == ["fastapi.dependencies", *pages, "GET /orders", "stream"]
    assert len({line.split(", ")[1] for line in lines}) == 1  # one trace
    assert "'stream.bytes': 234" in lines[-1]
    assert "'stream.end': 'complete'" in lines[-1]
    for name in names:
        assert name in PAGE


def test_the_command_that_brings_its_library_is_right() -> None:
    (printed,) = re.findall(r"`\.venv/bin/(uv pip install .*)`", PAGE)
    uv, *words = shlex.split(printed)
    command = [str(Path(sys.executable).with_name(uv)), *words]
    # It is here already, with the version that the lock names.
    command += ["--dry-run", "--offline", "--python", sys.executable]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=True
    )
    assert "Would make no changes" in done.stderr


def test_the_span_of_fastapi_calls_a_client_that_left_an_error(tmp_path: Path) -> None:
    port = servers.free_port()
    name = "stream_middleware_spans.py"
    program = clients.copied(name, f"http://127.0.0.1:{port}", tmp_path)
    with servers.serve([sys.executable, "-u", str(program)], port) as running:
        curl(f"{running.url}/events", *LEAVE)
        running.expect("span 'GET /events'")
        error = "{'error.type': 'ConnectionError'}"
        running.expect(error)
        assert f"`{error}`" in PAGE


def test_break_it_an_id_that_nobody_checks_forges_the_log(tmp_path: Path) -> None:
    old = "if len(sent) == 1 and PLAIN_ID.fullmatch(sent[0]):"
    folder = changed(tmp_path, "stream_middleware", old, "if sent:")
    header = "X-Request-ID: 7, complete; request 8"
    assert f"-H '{header}'" in PAGE
    for cwd, forged in [(ROOT, False), (folder, True)]:
        with uvicorn(APP, cwd=cwd) as running:
            done = curl(f"{running.url}/orders", "-i", "-H", header)
            running.expect("complete; request ")
            running.expect("\n")
            end = "complete; request 7, complete; request 8\n"
            assert (end in running.output()) == forged
            assert end.strip() in PAGE
            assert ("x-request-id: 7, complete; request 8" in done.stdout) == forged


def test_behind_basehttpmiddleware_curl_takes_a_failed_stream_for_complete() -> None:
    wrong = "recipes.pitfalls.stream_middleware.failure_behind_middleware:app"
    with uvicorn(wrong) as running:
        done = curl(f"{running.url}/orders")
        assert (done.returncode, done.stdout.count("id")) == (0, 3)
        # httpx2 does not notice either.
        assert httpx2.get(f"{running.url}/orders").text == done.stdout
        running.expect("ValueError: Order 4 cannot be read")
