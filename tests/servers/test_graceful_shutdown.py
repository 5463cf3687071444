"""docs/recipes/graceful_shutdown.md: what the page says of real servers and clients."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from hypercorn.config import Config as HypercornConfig

from cookbook.catalog import ROOT
from tests.kit import clients, servers, sse
from tests.kit.changed import changed
from tests.kit.servers import (
    HOST,
    START,
    WAIT,
    Answer,
    Server,
    ask,
    free_port,
    raw_get,
    reset,
    serve,
    uvicorn,
)

pytestmark = pytest.mark.timeout(2 * START)
APP = "recipes.graceful_shutdown:app"
MODULE = "tests.servers.watched_graceful_shutdown"
WATCHED = f"{MODULE}:app"
PAGE = (ROOT / "docs/recipes/graceful_shutdown.md").read_text("utf-8")
PATHS = ("/native", "/framed", "/sse-starlette")
BACKSTOP = ("--timeout-graceful-shutdown", "3")  # seconds
CUT = "timeout graceful shutdown exceeded"  # what uvicorn says at the backstop
QUICK = {"PAUSE": "0.05"}  # seconds between two orders
MANY = 100
Serve = Callable[..., AbstractContextManager[Server]]


def streams(server: Server, stack: ExitStack, many: int) -> list[Answer]:
    """Open so many streams, by turns of each kind, and read the first order of each."""
    answers = [
        stack.enter_context(raw_get(server.port, PATHS[number % 3]))
        for number in range(many)
    ]
    for answer in answers:
        assert b"event: order" in answer.chunk()
    return answers


def waits(answers: Sequence[Answer]) -> list[int]:
    """Read each stream up to its end, a farewell; give what each client is told."""
    told = []
    for answer in answers:
        # A complete body: `rest` raises EOFError if the last chunk is missing.
        parsed = sse.parse([answer.rest()])
        assert parsed.events[-1].event == "farewell"
        assert parsed.retry is not None
        told.append(parsed.retry)
    return told


def said(server: Server) -> dict[str, list[str]]:
    """Give what each process of the watched recipe has said, in order."""
    found: dict[str, list[str]] = {}
    for pid, text in re.findall(
        r"^(\d+) (stream \w+|lifespan .+)$", server.output(), re.M
    ):
        found.setdefault(pid, []).append(text)
    return found


def assert_clean(server: Server, many: int) -> None:
    """Every stream was closed before its process's lifespan ended; nobody was cut."""
    closed = 0
    for lines in said(server).values():
        assert lines[-1] == "lifespan ends, 0 open", lines
        assert lines.count("stream opened") == lines.count("stream closed")
        closed += lines.count("stream closed")
    assert closed == many
    log = server.output()
    assert CUT not in log  # so it took less than the three seconds of the backstop
    assert "Traceback" not in log
    assert "ERROR" not in log


# The signal --------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_hundred_streams_end_with_a_farewell_before_the_backstop(
    number: signal.Signals,
) -> None:
    with uvicorn(WATCHED, *BACKSTOP) as server, ExitStack() as stack:
        answers = streams(server, stack, MANY)
        server.signal(number)
        told = waits(answers)
        assert len(set(told)) > MANY / 2
        assert all(1000 <= wait <= 3000 for wait in told)
        assert server.wait() in (0, -number)
        assert_clean(server, MANY)


def both_workers(server: Server, stack: ExitStack) -> list[Answer]:
    """Open a hundred streams, or more, so that each of the two workers has some."""
    answers = streams(server, stack, MANY)
    while len([x for x in said(server).values() if "stream opened" in x]) < 2:
        assert len(answers) < 5 * MANY, "one worker gets everything"
        answers += streams(server, stack, 10)
    return answers


def test_the_page_prints_the_command_with_the_backstop() -> None:
    assert f"\nuvicorn {APP} {' '.join(BACKSTOP)}\n" in PAGE


def test_so_do_those_of_two_workers_at_ctrl_c() -> None:
    with (
        uvicorn(WATCHED, "--workers", "2", *BACKSTOP) as server,
        ExitStack() as stack,
    ):
        answers = both_workers(server, stack)
        # A terminal sends it to every process in it.
        os.killpg(server.process.pid, signal.SIGINT)
        waits(answers)
        assert server.wait() == 0
        assert_clean(server, len(answers))
        assert len(said(server)) == 2


def resumed(port: int, path: str, last_id: str) -> int:
    """Come back with an id, as often as one is sent away; give the first order's id."""
    fields = {"Last-Event-ID": last_id}
    while True:
        # A worker that is about to stop answers with another farewell, or ends first.
        with suppress(ConnectionResetError, EOFError), raw_get(port, path, fields) as a:
            if found := sse.parse([a.chunk()]).last_event_id:
                return int(found)


def test_workers_are_replaced_one_by_one_at_sighup_and_end_together_at_sigterm() -> (
    None
):
    with (
        uvicorn(WATCHED, "--workers", "2", *BACKSTOP) as server,
        ExitStack() as stack,
    ):
        answers = both_workers(server, stack)
        old = set(said(server))
        server.signal(signal.SIGHUP)
        for number, answer in enumerate(answers):
            parsed = sse.parse([answer.rest()])
            assert parsed.events[-1].event == "farewell"
            # Who read no more than the first chunk has seen order 1.
            last_id = parsed.last_event_id or "1"
            # Somebody listens all the time.
            assert resumed(server.port, PATHS[number % 3], last_id) == int(last_id) + 1
        servers.until(
            lambda: server.output().count("Finished server process") == 2,
            "the old workers to end",
        )
        ended = {pid for pid, lines in said(server).items() if "lifespan" in lines[-1]}
        assert ended == old
        answers = streams(server, stack, MANY)
        server.signal(signal.SIGTERM)
        waits(answers)
        assert server.wait() == 0
        lives = said(server)
        opened = sum(lines.count("stream opened") for lines in lives.values())
        assert len(lives) == 4
        assert_clean(server, opened)


def test_a_reload_says_goodbye_and_the_new_process_goes_on(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    for name in ("__init__.py", "graceful_shutdown.py"):
        shutil.copy(ROOT / "recipes" / name, tmp_path / "recipes")
    source = tmp_path / "recipes/graceful_shutdown.py"
    with uvicorn(APP, "--reload", cwd=tmp_path) as server:
        with raw_get(server.port, "/native") as answer:
            assert b"event: order" in answer.chunk()
            server.expect("Application startup complete.")
            server.expect(" 200 OK")
            text = source.read_text("utf-8").replace("tea no.", "coffee no.")
            source.write_text(text, "utf-8")
            parsed = sse.parse([answer.rest()])
            assert parsed.events[-1].event == "farewell"
        last_id = parsed.last_event_id or "1"
        # The reloader holds the port: who comes now waits for the new process.
        socket.create_connection((HOST, server.port), WAIT).close()
        server.expect("Finished server process")
        server.expect("Application startup complete.")
        with raw_get(server.port, "/native", {"Last-Event-ID": last_id}) as answer:
            assert b"coffee no. %d" % (int(last_id) + 1) in answer.chunk()


def test_a_second_ctrl_c_still_ends_the_server_at_once() -> None:
    with (
        uvicorn("--factory", f"{MODULE}:deaf", env=QUICK) as server,
        raw_get(server.port, "/native") as answer,
    ):
        assert b"event: order" in answer.chunk()
        server.signal(signal.SIGINT)
        server.expect("Waiting for connections to close.")
        assert b"event: order" in answer.chunk()
        server.signal(signal.SIGINT)
        server.wait()
        assert "lifespan ends" not in server.output()  # That is what force means.
        assert "CancelledError" in server.output()


def test_a_second_sigterm_does_no_harm() -> None:
    with uvicorn(WATCHED, *BACKSTOP) as server, ExitStack() as stack:
        answers = streams(server, stack, 30)
        server.signal(signal.SIGTERM)
        server.signal(signal.SIGTERM)
        waits(answers)
        assert server.wait() == -signal.SIGTERM
        assert_clean(server, 30)


# The backstop ------------------------------------------------------------------------


def test_a_stream_that_ignores_the_signal_is_cut_by_the_backstop() -> None:
    with (
        uvicorn(
            "--factory", f"{MODULE}:deaf", "--timeout-graceful-shutdown", "1"
        ) as server,
        ExitStack() as stack,
    ):
        answers = streams(server, stack, 3)
        server.signal(signal.SIGTERM)
        server.expect("Waiting for connections to close.")
        for answer in answers:
            with pytest.raises(EOFError):
                answer.rest()
        server.expect(f"Cancel 3 running task(s), {CUT}")
        assert server.wait() == -signal.SIGTERM
        # uvicorn does not wait for what it has cancelled: that is not the right order.
        assert "lifespan ends, 3 open" in server.output()


def test_attack_clients_that_never_read_do_not_keep_the_process() -> None:
    """Clients ask for streams and never read: the backstop cuts them off."""
    with (
        uvicorn(
            "--factory", f"{MODULE}:flooding", "--timeout-graceful-shutdown", "1"
        ) as server,
        ExitStack() as stack,
    ):
        for path in PATHS:
            stack.enter_context(raw_get(server.port, path))
            # No buffer takes an order as large as these.
            server.expect("order 1 is made")
        server.signal(signal.SIGTERM)
        server.expect(f"Cancel 3 running task(s), {CUT}")
        assert server.wait() == -signal.SIGTERM


def test_without_a_backstop_it_would() -> None:
    with uvicorn("--factory", f"{MODULE}:deaf", env=QUICK) as server:
        with raw_get(server.port, "/framed") as answer:
            assert b"event: order" in answer.chunk()
            server.signal(signal.SIGTERM)
            server.expect("Waiting for connections to close.")
            for _ in range(3):
                assert b"event: order" in answer.chunk()
            assert server.process.poll() is None
        # Now its last client has left.
        assert server.wait() == -signal.SIGTERM


# sse-starlette -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("factory", "reload", "cut"),
    [("theirs", False, False), ("unchained", True, False), ("theirs", True, True)],
)
def test_in_a_process_of_its_own_sse_starlette_does_not_see_behind_our_handler(
    factory: str, reload: bool, cut: bool, tmp_path: Path
) -> None:
    # It looks twice a second; where it does not see the signal, a short wait will do.
    options = ["--timeout-graceful-shutdown", "1" if cut else "3"]
    if reload:
        options += ["--reload", "--reload-dir", str(tmp_path)]
    with (
        uvicorn("--factory", f"{MODULE}:{factory}", *options) as server,
        raw_get(server.port, "/theirs") as answer,
    ):
        assert b"tick" in answer.chunk()
        server.signal(signal.SIGTERM)
        # Where it sees the signal, it cuts its streams off, and says no farewell.
        with pytest.raises(EOFError):
            answer.rest()
        server.wait()
        assert (CUT in server.output()) == cut


# Other servers -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "options"),
    [
        (servers.granian, ()),
        (servers.hypercorn, ("--workers", "0")),
        (uvicorn, ("--http", "h11", "--loop", "asyncio")),
    ],
    ids=["granian", "hypercorn-0", "uvicorn-h11"],
)
def test_so_do_streams_of_other_servers(start: Serve, options: Sequence[str]) -> None:
    with start(WATCHED, *options) as server, ExitStack() as stack:
        answers = streams(server, stack, 30)
        server.signal(signal.SIGTERM)
        waits(answers)
        assert server.wait() in (0, -signal.SIGTERM)
        (lines,) = said(server).values()
        assert lines.count("stream closed") == 30
        assert lines[-1] == "lifespan ends, 0 open"


def test_a_worker_of_hypercorn_hears_nothing_and_is_cut_after_three_seconds() -> None:
    assert HypercornConfig().graceful_timeout == 3
    options = ("--graceful-timeout", "1")  # This test need not wait for three.
    with servers.hypercorn(WATCHED, *options) as server, ExitStack() as stack:
        answers = streams(server, stack, 3)
        server.signal(signal.SIGTERM)
        for answer in answers:
            with pytest.raises(EOFError):
                answer.rest()
        assert server.wait() == 0


# Clients -----------------------------------------------------------------------------


def at(port: int, *options: str, app: str = APP) -> AbstractContextManager[Server]:
    """Serve the recipe on this port."""
    argv = [sys.executable, "-u", "-m", "uvicorn", app, "--port", str(port), *options]
    return serve(argv, port, warm=True, env=QUICK | {"SOONEST": "100", "LATEST": "300"})


def test_the_client_goes_on_in_the_new_process_and_prints_each_order_once(
    tmp_path: Path,
) -> None:
    port = free_port()
    program = clients.copied("graceful_shutdown.py", f"http://{HOST}:{port}", tmp_path)
    with at(port, *BACKSTOP, app=WATCHED) as server:
        client = subprocess.Popen(
            [sys.executable, str(program)], stdout=subprocess.PIPE, text=True
        )
        assert client.stdout
        lines = [client.stdout.readline() for _ in range(3)]
        server.signal(signal.SIGTERM)
        server.wait()
    # Nobody listens now; the client finds that out for itself.
    while "ConnectError" not in lines[-1]:
        assert lines[-1], lines
        lines.append(client.stdout.readline())
    with at(port, app=WATCHED):
        rest, _ = client.communicate(timeout=clients.WAIT)
    lines += rest.splitlines(keepends=True)
    assert client.returncode == 0
    orders = [json.loads(x.removeprefix("order ")) for x in lines if x.startswith("o")]
    assert [order["id"] for order in orders] == [*range(1, 21)]
    assert lines.count("farewell {}\n") == 1
    # Until the farewell says otherwise it would have waited for two seconds.
    assert set(re.findall(r"connecting again in (.+)", "".join(lines))) <= {
        "0.1 s",
        "0.2 s",
        "0.3 s",
    }


def test_the_client_checks_the_status_first(tmp_path: Path) -> None:
    with uvicorn("recipes.plain_text:app") as other:
        done = clients.run("graceful_shutdown.py", other.url, tmp_path)
    assert done.returncode == 1
    assert "404" in done.stderr
    assert done.stdout == ""


# Clients that leave, and strange ones ------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Serve the recipe, for the tests that do not stop it."""
    with uvicorn(WATCHED) as running:
        yield running


def counts(server: Server) -> dict[str, Any]:
    """Ask what there is now."""
    with raw_get(server.port, "/counts", {"Connection": "close"}) as answer:
        found: dict[str, Any] = json.loads(answer.stream.read())
    return found


def test_after_a_hundred_abrupt_disconnects_nothing_is_left(server: Server) -> None:
    for path in PATHS:
        with raw_get(server.port, path) as answer:
            assert answer.chunk()
    servers.until(lambda: counts(server)["open"] == 0, "the streams to be closed")
    before = counts(server)
    server.seen = len(server.output())
    asked = [ask(server.port, PATHS[number % 3]) for number in range(MANY)]
    for number, connection in enumerate(asked):
        if number % 2:
            assert connection.recv(1000)
        reset(connection)
    servers.until(lambda: counts(server) == before, f"{before}")
    assert before["open"] == 0
    log = server.output()[server.seen :]
    assert "Traceback" not in log
    assert "ERROR" not in log


IDS = {
    "Latin-1": b"7\xe9",
    "UTF-8": "订单7".encode(),
    "Arabic": "٣".encode(),
    "8 KB": b"7" * 8192,
    "two": b"7\r\nLast-Event-ID: 9",
    "escape": b"7\x1b[31m",
}


@pytest.mark.parametrize("sent", IDS.values(), ids=IDS.keys())
def test_attack_raw_bytes_as_an_id_get_a_feed_or_a_400(
    sent: bytes, server: Server
) -> None:
    """Last-Event-ID holds raw bytes: it gets a feed or a 400, never a 500."""
    fields = b"Last-Event-ID: " + sent + b"\r\n"
    with ask(server.port, "/framed", fields) as connection:
        answer = connection.recv(65_536)
        while b"event: order" not in answer and b" 400 " not in answer:
            more = connection.recv(65_536)
            assert more, answer
            answer += more
    assert answer.split()[1] in {b"200", b"400"}
    assert "Traceback" not in server.output()


# What the page lets a reader break ---------------------------------------------------


def stopped(cwd: Path, *options: str) -> tuple[str, str]:
    """Start the recipe as the page does, ask for a feed, and stop it with SIGINT.

    With options of your own the last one counts.
    """
    curl = shutil.which("curl") or servers.need("curl", "apt-get install curl")
    with uvicorn(APP, *BACKSTOP, *options, cwd=cwd) as running:
        command = [curl, "-q", "-N", "-sS", f"{running.url}/native"]
        asked = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        running.expect(" 200 OK")
        running.signal(signal.SIGINT)
        stdout, stderr = asked.communicate(timeout=20)
        running.wait()
        return stdout + stderr, running.output()


def test_break_it_without_the_call_nobody_is_told(tmp_path: Path) -> None:
    told, log = stopped(ROOT)
    assert "event: farewell" in told
    assert "curl: " not in told
    assert CUT not in log
    old = "loop.call_soon_threadsafe(tell)"
    deaf = changed(tmp_path, "graceful_shutdown", old, "pass")
    # The page's three seconds, shortened.
    told, log = stopped(deaf, "--timeout-graceful-shutdown", "1")
    assert "event: farewell" not in told
    error = "curl: (18) transfer closed with outstanding read data remaining"
    assert error in told
    assert error in PAGE
    line = "Cancel 1 running task(s), timeout graceful shutdown exceeded"
    assert line in PAGE
    before, found, traceback = log.partition(line)
    assert found
    assert "Traceback" not in before
    assert "Exception in ASGI application\nTraceback" in traceback
    assert "CancelledError" in traceback
