"""docs/recipes/sse_progress.md: watchers that leave, servers that stop, two workers."""

import json
import signal
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cookbook.catalog import ROOT
from tests.kit import clients, servers
from tests.kit.changed import changed
from tests.kit.servers import (
    WAIT,
    Server,
    granian,
    hypercorn,
    raw_get,
    until,
    uvicorn,
)
from tests.kit.sse import Event, parse

pytestmark = pytest.mark.timeout(servers.START + 30)

Start = Callable[..., AbstractContextManager[Server]]

SAMPLE = (ROOT / "docs/clients/sse_progress.csv").read_bytes()
WATCHED = "tests.servers.watched_sse_progress:app"
TOLD = '{"reason":"The server was stopped; send it again","line":null}'
SERVERS: list[Start] = [uvicorn, hypercorn, granian]


@pytest.fixture(scope="module", params=SERVERS, ids=lambda start: start.__name__)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Run the recipe, with steps that the tests allow, on each of the servers."""
    start: Start = request.param
    with start(WATCHED) as running:
        yield running


def send(server: Server, file: bytes = SAMPLE) -> str:
    """Start a job and give its path."""
    response = httpx2.post(f"{server.url}/jobs", content=file)
    assert response.status_code == 202
    return f"/{response.headers['location']}"


def allow(server: Server, steps: int) -> None:
    """Let jobs take so many steps."""
    with raw_get(server.port, f"/allow?steps={steps}") as answer:
        assert " 200 " in answer.head.splitlines()[0]


def left(server: Server) -> dict[str, Any]:
    """Count what there is now."""
    with raw_get(server.port, "/left", {"Connection": "close"}) as answer:
        counts: dict[str, Any] = json.loads(answer.stream.read())
        return counts


def test_the_first_event_comes_before_the_first_step_and_the_last_at_the_end(
    server: Server,
) -> None:
    path = send(server)
    with raw_get(server.port, path) as answer:
        assert answer.chunk() == b'event: progress\ndata: {"rows":0,"percent":0}\n\n'
        for number in range(1, 11):
            allow(server, 1)
            assert b'"percent":%d}' % (10 * number) in answer.chunk()
        end = parse([answer.rest()]).events
    assert end == [Event("completed", '{"rows":10}', "")]


def test_two_hundred_watchers_that_break_off_leave_nothing_and_the_job_goes_on(
    server: Server,
) -> None:
    path = send(server)
    with raw_get(server.port, path) as stays:
        assert b"progress" in stays.chunk()
        before = left(server)
        for number in range(200):
            if number % 40 == 0:
                allow(server, 1)
            with raw_get(server.port, path) as leaves:
                if number % 2:
                    leaves.chunk()
                leaves.abort()
        counted = set(before)
        if "hypercorn" in server.argv:  # It keeps tasks of its own, for seconds.
            counted = {"watchers"}
        if "granian" in server.argv:  # It may keep a generator that no task runs.
            counted.remove("watchers")
        until(
            lambda: all(left(server)[name] == before[name] for name in counted),
            f"{left(server)} to be {before}",
        )
        allow(server, 5)
        assert parse([stays.rest()]).events[-1] == Event("completed", '{"rows":10}', "")
    until(lambda: left(server)["places"] == 4, "the place")
    assert "Traceback" not in server.output()


def test_uploads_that_break_off_give_their_places_back(server: Server) -> None:
    lines = ["POST /jobs HTTP/1.1", "Host: x", "Content-Length: 1000", "", ""]
    head = "\r\n".join(lines).encode()
    for size in (0, 1, 100):
        with socket.create_connection(("127.0.0.1", server.port), WAIT) as connection:
            connection.sendall(head + SAMPLE[:size])
            until(lambda: left(server)["places"] < 4, "the file to arrive")
        until(lambda: left(server)["places"] == 4, "the place")
    assert "Traceback" not in server.output()


STOPS = [signal.SIGTERM, signal.SIGINT]


@pytest.mark.parametrize("start", [uvicorn, granian], ids=lambda start: start.__name__)
@pytest.mark.parametrize("stop", STOPS, ids=lambda stop: stop.name)
def test_a_server_that_is_stopped_tells_its_watchers_and_ends_at_once(
    start: Start, stop: signal.Signals
) -> None:
    with start(WATCHED) as server:
        with raw_get(server.port, send(server)) as answer:
            answer.chunk()
            allow(server, 1)
            answer.chunk()
            server.signal(stop)
            end = parse([answer.rest()]).events
            assert end == [Event("failed", TOLD, "")]
        assert server.wait() in (0, -stop)
        assert "Traceback" not in server.output()


def test_hypercorn_cuts_its_watchers_off_and_stops_the_jobs_then(
    tmp_path: Path,
) -> None:
    database = tmp_path / "orders.sqlite"
    with hypercorn(WATCHED, env={"ORDERS_DB": str(database)}) as server:
        with raw_get(server.port, send(server)) as answer:
            answer.chunk()
            server.signal(signal.SIGTERM)
            # Its worker gets no signal; the streams have three seconds.
            with pytest.raises(EOFError):
                answer.rest()
        assert server.wait() in (0, -signal.SIGTERM)
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT * FROM orders").fetchall() == []


def test_a_watcher_that_never_reads_costs_nobody_anything() -> None:
    with uvicorn(WATCHED) as server:
        path = send(server)
        with ExitStack() as stack:
            idle = [stack.enter_context(raw_get(server.port, path)) for _ in range(5)]
            with raw_get(server.port, path) as reads:
                allow(server, 10)
                assert parse([reads.rest()]).events[-1].event == "completed"
            until(lambda: left(server)["watchers"] == 0, "the streams to end")
            # What they did not read was sent all the same, and waits for them.
            assert parse([idle[0].rest()]).events[-1].event == "completed"
            for answer in idle[1:]:
                answer.abort()
        assert left(server)["places"] == 4
    assert "Traceback" not in server.output()


def test_with_two_workers_a_watcher_may_meet_the_other_one(tmp_path: Path) -> None:
    env = {"ORDERS_DB": str(tmp_path / "orders.sqlite")}
    with uvicorn(WATCHED, "--workers", "2", env=env) as server, ExitStack() as stack:
        path = send(server)
        met = set[str]()

        def both() -> bool:
            # Each stays open, so that the next one may go to the other worker.
            answer = stack.enter_context(raw_get(server.port, path))
            status = answer.head.split()[1]
            met.add(status)
            return len(met) == 2

        until(both, "an answer of each worker")
    assert met == {"200", "404"}


def test_a_process_that_was_told_no_job_imports_into_the_same_table(
    tmp_path: Path,
) -> None:
    env = {"ORDERS_DB": str(tmp_path / "orders.sqlite")}
    app = "recipes.sse_progress:app"
    with uvicorn(app, env=env) as one, uvicorn(app, env=env) as other:
        path = send(one)
        assert httpx2.get(f"{other.url}{path}").status_code == 404
        assert send(other) == path
        for server in (one, other):
            with raw_get(server.port, path) as answer:
                assert parse([answer.rest()]).events[-1].event == "completed"
        assert httpx2.get(f"{other.url}/orders").json() == {"orders": 10}


@pytest.fixture(scope="module")
def recipe() -> Iterator[Server]:
    """Run the recipe as it is."""
    with uvicorn("recipes.sse_progress:app") as running:
        yield running


@pytest.mark.parametrize("name", ["sse_progress.py", "sse_progress.mjs"])
def test_a_client_sends_a_file_and_follows_its_job(
    recipe: Server, tmp_path: Path, name: str
) -> None:
    (tmp_path / "new_orders.csv").write_bytes(SAMPLE)
    done = clients.run(name, recipe.url, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        *(f"{percent} %, {percent // 10} rows" for percent in range(0, 101, 10)),
        "completed, 10 rows",
    ]


@pytest.mark.parametrize("name", ["sse_progress.py", "sse_progress.mjs"])
def test_a_client_says_why_an_import_failed(
    recipe: Server, tmp_path: Path, name: str
) -> None:
    (tmp_path / "new_orders.csv").write_bytes(SAMPLE.replace(b"7.80", b"dear", 1))
    done = clients.run(name, recipe.url, tmp_path)
    assert done.returncode == 1
    assert "failed: line 3: price: Input should be a valid decimal" in done.stderr


@pytest.mark.parametrize("name", ["sse_progress.py", "sse_progress.mjs"])
def test_a_client_checks_the_status_first(tmp_path: Path, name: str) -> None:
    (tmp_path / "new_orders.csv").write_bytes(SAMPLE)
    # This server knows no /jobs.
    with uvicorn("recipes.plain_text:app") as server:
        done = clients.run(name, server.url, tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "404" in done.stderr


@pytest.mark.parametrize("name", ["sse_progress.py", "sse_progress.mjs"])
def test_a_client_says_so_if_the_server_is_gone_before_the_end(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "new_orders.csv").write_bytes(SAMPLE)
    with uvicorn("--factory", "tests.servers.cut_sse_progress:app") as server:
        done = clients.run(name, server.url, tmp_path)
    assert done.returncode == 1
    assert "The stream ended before the job did" in done.stderr


def test_break_it_a_job_that_is_forgotten_at_once_tells_nothing_to_who_comes_late(
    recipe: Server, tmp_path: Path
) -> None:
    folder = changed(tmp_path, "sse_progress", "KEEP = 300.0", "KEEP = 0.0")
    page = (ROOT / "docs/recipes/sse_progress.md").read_text("utf-8")
    unknown = '{"detail":"This process knows no such job"}'
    with uvicorn("recipes.sse_progress:app", cwd=folder) as broken:
        for server in (recipe, broken):
            path = send(server)
            with raw_get(server.port, path) as answer:
                assert b"event: completed" in answer.rest()
        assert "event: completed" in httpx2.get(f"{recipe.url}{path}").text
        assert httpx2.get(f"{broken.url}{path}").text == unknown
    assert unknown in page
    assert "event: completed" in page
