"""docs/recipes/sse_disconnect.md: its claims about real servers, clients, networks."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from cookbook.catalog import ROOT
from recipes.sse_disconnect import STALL
from tests.kit import clients, servers
from tests.kit.changed import changed
from tests.kit.servers import WAIT, Server, ask, raw_get, reset, uvicorn

pytestmark = pytest.mark.timeout(servers.START + 30)

WATCHED = "tests.servers.watched_sse_disconnect:app"
FLOODING = ("--factory", "tests.servers.watched_sse_disconnect:flooding")
STREAMS = ["/native", "/by-hand", "/sse-starlette"]
PAGE = (ROOT / "docs/recipes/sse_disconnect.md").read_text("utf-8")

Serve = Callable[..., AbstractContextManager[Server]]
SERVERS: list[Serve] = [uvicorn, servers.hypercorn, servers.granian]


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """Name a book of the test's own."""
    return tmp_path / "book.txt"


def env(book: Path, **more: object) -> Mapping[str, str]:
    """Say in the environment what the watched recipe is to do."""
    return {"BOOK": str(book), **{name: str(value) for name, value in more.items()}}


def lines(book: Path, count: int) -> list[str]:
    """Wait until the book has so many lines, and give them."""

    def written() -> list[str]:
        return book.read_text("utf-8").splitlines() if book.exists() else []

    servers.until(lambda: len(written()) >= count, f"{count} lines")
    return written()


def left(server: Server, path: str = "/left") -> dict[str, int]:
    """Ask the watched recipe what there is now."""
    with raw_get(server.port, path, {"Connection": "close"}) as answer:
        found: dict[str, int] = json.loads(answer.stream.read())
    return found


def wait_until_left(
    server: Server, wanted: dict[str, int], *, collect: bool = False
) -> int:
    """Wait until no more is left than before; give the number of endpoints.

    The endpoints count only if the garbage collector is called.
    """
    path = "/left?collect" if collect else "/left"
    ignored = {} if collect else {"endpoints": wanted["endpoints"]}
    deadline = time.monotonic() + WAIT
    while ((found := left(server, path)) | ignored) != wanted:
        assert time.monotonic() < deadline, f"{found} is left, not {wanted}"
        time.sleep(servers.POLL)
    return found["endpoints"]


def unharmed(server: Server) -> bool:
    """Tell whether the log is free of errors."""
    return not re.search("Traceback|ERROR", server.output())


def test_after_a_thousand_abrupt_disconnects_nothing_is_left(book: Path) -> None:
    with uvicorn(WATCHED, env=env(book, PAUSE=0.01)) as server:
        for path in [*STREAMS, "/report"]:  # sse-starlette starts a task for good.
            with raw_get(server.port, path) as answer:
                answer.stream.readline()
        lines(book, 4)
        before = left(server)
        for _ in range(10):
            for path in STREAMS:
                asked = [ask(server.port, path) for _ in range(32)]
                for number, connection in enumerate(asked):
                    if number % 4:
                        assert connection.recv(1000)
                    reset(connection)
            for connection in [ask(server.port, "/report") for _ in range(4)]:
                reset(connection)
            wait_until_left(server, before)
        # Who had read something was there for sure.
        assert 10 * 3 * 24 <= len(lines(book, 1)) <= 1004
        wait_until_left(server, before | {"endpoints": 0}, collect=True)
        assert unharmed(server)


@pytest.mark.parametrize("path", STREAMS)
def test_nor_after_two_hundred_that_never_read(path: str, book: Path) -> None:
    with uvicorn(*FLOODING, env=env(book, PAUSE=0)) as server:
        with raw_get(server.port, path):
            pass
        lines(book, 1)
        before = left(server) | {"endpoints": 0}
        for _ in range(5):
            asked = [ask(server.port, path) for _ in range(40)]
            for connection in asked:
                assert connection.recv(1)
            for connection in asked:
                reset(connection)
            endpoints = wait_until_left(server, before)
        # FastAPI's error holds the endpoint's generator, which holds nothing.
        assert (endpoints > 0) == (path == "/native")
        wait_until_left(server, before, collect=True)
        assert len(lines(book, 201)) == 201
        assert unharmed(server)


@pytest.mark.parametrize("path", STREAMS)
def test_a_client_that_takes_nothing_is_given_up_with_one_line_in_the_log(
    path: str, book: Path
) -> None:
    with uvicorn(*FLOODING, env=env(book, PAUSE=0, STALL=1)) as server:
        with ExitStack() as stack:
            connection = stack.enter_context(ask(server.port, path))
            assert connection.recv(1)
            (line,) = lines(book, 1)
            assert line.startswith(f"{path}: ")
            server.expect("ASGI callable returned without completing response.")
            assert "Traceback" not in server.output()
            # What was on its way still is: the socket waits for its client.
            found = left(server)
            assert found["places"] == found["generators"] == 0
        assert server.output().count("ERROR") == 1
    assert STALL == 30


@pytest.mark.parametrize("serve", SERVERS, ids=["uvicorn", "hypercorn", "granian"])
def test_every_server_lets_the_recipe_notice(serve: Serve, book: Path) -> None:
    with serve(WATCHED, env=env(book, PAUSE=0.05)) as server:
        count = 0
        for path in STREAMS:
            for abrupt in (False, True):
                with raw_get(server.port, path) as answer:
                    # It is here although the producer would go on for ten minutes.
                    assert b"placed" in answer.chunk()
                    if abrupt:
                        answer.abort()
                count += 1
                line = lines(book, count)[-1]
                assert line.startswith(f"{path}: ")
                assert re.search("cancelled at an await|closed at a yield", line)
                assert ("handler called" in line) == (path == "/sse-starlette")
        connection = ask(server.port, "/report")
        while left(server)["places"] == 0:
            time.sleep(servers.POLL)
        connection.close()
        assert lines(book, count + 1)[-1].endswith("told by is_disconnected")
        assert left(server)["generators"] == left(server)["places"] == 0
        assert "Traceback" not in server.output()


@pytest.mark.parametrize("serve", SERVERS[1:], ids=["hypercorn", "granian"])
@pytest.mark.parametrize("leaves", [True, False])
def test_so_it_does_with_clients_that_do_not_read(
    serve: Serve, leaves: bool, book: Path
) -> None:
    app = "tests.servers.watched_sse_disconnect:flooded"
    with serve(app, env=env(book, PAUSE=0, STALL=30 if leaves else 1)) as server:
        asked = [ask(server.port, path) for path in STREAMS]
        for connection in asked:
            assert connection.recv(1)
            if leaves:
                reset(connection)
        assert {line.split(":")[0] for line in lines(book, 3)} == set(STREAMS)
        found = left(server)
        assert found["places"] == found["generators"] == 0
        assert "Traceback" not in server.output()
        for connection in asked:
            connection.close()


@pytest.mark.parametrize(
    ("serve", "called"),
    [(uvicorn, True), (servers.hypercorn, True), (servers.granian, False)],
    ids=["uvicorn", "hypercorn", "granian"],
)
def test_the_handler_is_called_after_a_complete_answer_but_not_by_granian(
    serve: Serve, called: bool, book: Path
) -> None:
    with serve(WATCHED, env=env(book, PAUSE=0.05, LIFETIME=0.12)) as server:
        with raw_get(server.port, "/sse-starlette") as answer:
            assert answer.rest()
        (line,) = lines(book, 1)
    assert line.endswith("handler called" if called else "no sign that it left")


def test_a_server_that_gives_up_its_streams_does_not_wait_for_the_book(
    book: Path,
) -> None:
    app = ("--factory", "tests.servers.watched_sse_disconnect:slow_book")
    stop = ("--timeout-graceful-shutdown", "1")
    with (
        uvicorn(*app, *stop, env=env(book)) as server,
        raw_get(server.port, "/native") as answer,
    ):
        assert answer.chunk()
        server.signal(signal.SIGTERM)
        assert server.wait() in (0, -signal.SIGTERM)
        assert "written" not in server.output()


def test_each_worker_has_its_own_places_and_both_write_the_same_book(
    book: Path,
) -> None:
    with uvicorn(WATCHED, "--workers", "2", env=env(book, PLACES=1)) as server:
        with ExitStack() as stack:
            heads: list[str] = []
            pids: set[int] = set()
            deadline = time.monotonic() + WAIT
            # The system gives each connection to one of the two.
            while len(pids) < 2 or heads.count("200") < 2:
                assert time.monotonic() < deadline, (pids, heads)
                if (found := left(server))["places"]:
                    pids.add(found["pid"])
                if heads.count("200") < 2:
                    answer = stack.enter_context(raw_get(server.port, "/native"))
                    heads.append(answer.head.split()[1])
            assert set(heads) <= {"200", "503"}
        assert len(lines(book, 2)) == 2


# The clients -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sse_disconnect.py", "sse_disconnect.mjs"])
def test_a_client_prints_three_orders_and_its_leaving_is_noticed(
    name: str, book: Path, tmp_path: Path
) -> None:
    with uvicorn(WATCHED, env=env(book, PAUSE=0.05)) as server:
        done = clients.run(name, server.url, tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        orders = re.findall(r'\{"id": (\d), "state": "placed"\}', done.stdout)
        assert orders == ["1", "2", "3"]
        assert done.stdout.endswith("Left.\n")
        assert "cancelled at an await" in lines(book, 1)[0]


@pytest.mark.parametrize("name", ["sse_disconnect.py", "sse_disconnect.mjs"])
def test_a_client_checks_the_status_first(name: str, tmp_path: Path) -> None:
    with uvicorn("recipes.plain_text:app") as server:
        done = clients.run(name, server.url, tmp_path)
    assert done.returncode == 1
    assert "404" in done.stderr
    assert done.stdout == ""


# The page's experiments --------------------------------------------------------------


def test_curl_leaves_a_line_in_the_servers_log_as_the_page_says(book: Path) -> None:
    curl = shutil.which("curl") or servers.need("curl", "apt-get install curl")
    with uvicorn(WATCHED, env=env(book)) as server:
        for path, line in [
            ("/native", "/native: 3 given; cancelled at an await; 0 still open"),
            ("/by-hand", "/by-hand: 3 given; cancelled at an await; 0 still open"),
            (
                "/sse-starlette",
                "/sse-starlette: 3 given; handler called, cancelled at an await; "
                "0 still open",
            ),
            ("/report", "/report: 3 given; told by is_disconnected; 0 still open"),
        ]:
            limit = ["--max-time", "1.2"]
            command = [curl, "-q", "-N", *limit, f"{server.url}{path}"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=20)
            assert "curl: (28)" in done.stderr
            written = server.expect(" still open")
            # How many there were is up to the clock.
            assert f"INFO:     {line}" in re.sub(r"\d given", "3 given", written)
            assert line in PAGE


def test_break_it_a_report_that_does_not_ask_is_made_for_nobody(
    tmp_path: Path,
) -> None:
    curl = shutil.which("curl") or servers.need("curl", "apt-get install curl")
    old, new = "if await request.is_disconnected():", "if False:"
    folder = changed(tmp_path, "sse_disconnect", old, new)
    for cwd, line in [
        (ROOT, "/report: 3 given; told by is_disconnected; 0 still open"),
        (folder, "/report: 7 given; no sign that it left; 0 still open"),
    ]:
        assert line in PAGE
        with uvicorn("recipes.sse_disconnect:app", cwd=cwd) as server:
            command = [curl, "-q", "--max-time", "1.2", f"{server.url}/report"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=20)
            assert "curl: (28)" in done.stderr
            written = server.expect(" still open")
            assert line in re.sub(r"[1-6] given", "3 given", written)


# The client that vanished ------------------------------------------------------------


@pytest.fixture(scope="module")
def alone() -> list[str]:
    """Give the command that runs another in a network of its own, or skip."""
    for command in (["unshare", "-n"], ["unshare", "-r", "-n"]):
        if not shutil.which("unshare") or not shutil.which("ip"):
            break
        tried = [*command, "ip", "link", "set", "lo", "up"]
        if subprocess.run(tried, capture_output=True, timeout=20).returncode == 0:
            return command
    pytest.skip("this process may not make a network of its own")


def vanish(alone: list[str], command: list[str], book: Path, **more: float) -> str:
    """Let a client vanish; give the line that the server then writes."""
    program = str(ROOT / "tests/servers/vanish_sse_disconnect.py")
    done = subprocess.run(
        [*alone, sys.executable, program, sys.executable, "-u", *command],
        cwd=ROOT,
        env={**os.environ, **env(book, **more)},
        capture_output=True,
        text=True,
        timeout=servers.START,
    )
    assert done.returncode == 0, done.stderr
    line: str = done.stdout.strip()
    return line


def test_nothing_tells_the_server_of_a_client_that_vanished_so_a_lifetime_ends_it(
    alone: list[str], book: Path
) -> None:
    line = vanish(alone, ["-m", "uvicorn", WATCHED], book, LIFETIME=2, PAUSE=0.1)
    assert line.endswith("no sign that it left; 0 still open")
    # It went on making orders for nobody.
    assert int(line.split()[2]) > 10


def test_with_a_limit_of_the_kernel_it_looks_like_one_that_left(
    alone: list[str], book: Path, tmp_path: Path
) -> None:
    source = (ROOT / "docs/clients/sse_disconnect_listen.py").read_text("utf-8")
    assert "UNHEARD = 30_000" in source
    listen = tmp_path / "listen.py"
    source = source.replace("30_000", "1_000")
    source = source.replace("recipes.sse_disconnect:app", WATCHED)
    listen.write_text(source, "utf-8")
    line = vanish(alone, [str(listen)], book)
    assert line.endswith("cancelled at an await; 0 still open")


def test_that_limit_ends_a_client_that_stalls_as_well(
    book: Path, tmp_path: Path
) -> None:
    if sys.platform != "linux":
        pytest.skip("TCP_USER_TIMEOUT is an option of Linux")
    port = servers.free_port()
    source = (ROOT / "docs/clients/sse_disconnect_listen.py").read_text("utf-8")
    for old, new in [
        ("30_000", "1_000"),
        ("8000", str(port)),
        (
            "recipes.sse_disconnect:app",
            "tests.servers.watched_sse_disconnect:flooded",
        ),
    ]:
        source = source.replace(old, new)
    listen = tmp_path / "listen.py"
    listen.write_text(source, "utf-8")
    argv = [sys.executable, "-u", str(listen)]
    with servers.serve(argv, port, env=env(book, PAUSE=0)) as server:
        lines_before = left(server)
        with ask(server.port, "/by-hand") as connection:
            assert connection.recv(1)
            lines(book, 1)
            # The socket is gone too, while its client still holds the other end.
            wait_until_left(server, lines_before)
            assert unharmed(server)


@pytest.mark.timeout(servers.START + 60)
def test_a_stream_whose_queue_is_always_ready_runs_until_ctrl_c_comes_twice() -> None:
    """As docs/pitfalls/events.md says of StreamingResponse with asyncio.Queue."""

    def streams() -> list[str]:
        with raw_get(server.port, "/streams", {"Connection": "close"}) as answer:
            found: list[str] = json.loads(answer.stream.read())
        return found

    with uvicorn("recipes.pitfalls.sse_disconnect.queue_always_ready:app") as server:
        for path in ("/right-events", "/events"):
            with raw_get(server.port, path) as answer:
                assert answer.chunk() == b"data: 1\n\n"
        servers.until(lambda: streams() == ["/events"], "the right one to end")
        server.signal(signal.SIGINT)
        server.expect(
            "Waiting for background tasks to complete. (CTRL+C to force quit)"
        )
        assert server.process.poll() is None
        server.signal(signal.SIGINT)
        server.wait()
