"""docs/recipes/sse_keepalive.md: its claims about real servers, proxies and clients."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from cookbook.catalog import ROOT
from tests.kit import clients, servers
from tests.kit.nginx import nginx
from tests.kit.servers import Answer, Server, need, raw_get, uvicorn

pytestmark = pytest.mark.timeout(servers.START + 20)

WATCHED = "tests.servers.watched_sse_keepalive"
EVENTS = ["/by-hand", "/sse-starlette", "/native"]
ROUTES = [*EVENTS, "/ndjson"]
PINGING = ["/by-hand", "/sse-starlette", "/ndjson"]
PINGS = {b"event: ping\ndata: {}\n\n", b"event: ping\r\ndata: {}\r\n\r\n", b"\n"}
MANY = 200  # clients that leave abruptly
CUT = "upstream timed out"  # in nginx's log
Start = Callable[..., AbstractContextManager[Server]]

every_server = pytest.mark.parametrize(
    "start",
    [servers.uvicorn, servers.hypercorn, servers.granian],
    ids=["uvicorn", "hypercorn", "granian"],
)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Run the recipe."""
    with uvicorn("recipes.sse_keepalive:app") as running:
        yield running


@pytest.fixture
def watched() -> Iterator[Server]:
    """Run the recipe, counted, without a garbage collector."""
    with uvicorn("--factory", f"{WATCHED}:uncollected") as running:
        yield running


def read_pings(answer: Answer, many: int) -> None:
    """Read the first state, and then so many pings and nothing else."""
    assert b"placed" in answer.chunk()
    for _ in range(many):
        assert answer.chunk() in PINGS


def counts(server: Server) -> dict[str, object]:
    """Ask which feeds are open, and which tasks run."""
    with raw_get(server.port, "/counts", {"Connection": "close"}) as answer:
        found: dict[str, object] = json.loads(answer.stream.read())
    return found


# Behind a proxy that cuts what is silent


def before(server: Server) -> AbstractContextManager[Server]:
    """Put nginx before the recipe, as the page says, but cutting after one second."""
    page = (ROOT / "docs/clients/sse_keepalive.conf").read_text("utf-8")
    location = page.replace(clients.PRINTED, server.url)
    impatient = location.replace("proxy_read_timeout 60s;", "proxy_read_timeout 1s;")
    assert page != location != impatient
    return nginx(impatient)


@pytest.fixture(scope="module")
def proxy(server: Server) -> Iterator[Server]:
    """Run that nginx."""
    with before(server) as running:
        yield running


@pytest.mark.parametrize("path", ROUTES)
def test_nginx_cuts_a_feed_that_is_silent_for_too_long(
    path: str, proxy: Server
) -> None:
    with raw_get(proxy.port, f"{path}?quiet=60&ping=60") as answer:
        assert b"placed" in answer.chunk()
        with pytest.raises(EOFError):
            answer.chunk()
    proxy.expect(CUT)


@pytest.mark.parametrize("path", PINGING)
def test_pings_keep_it_alive_for_longer_than_that(path: str, proxy: Server) -> None:
    with raw_get(proxy.port, f"{path}?quiet=60&ping=0.25") as answer:
        # Ten pings take two and a half times as long as nginx allows a silence.
        read_pings(answer, 10)


def test_so_would_those_of_fastapi_if_15_seconds_were_often_enough() -> None:
    with (
        uvicorn("--factory", f"{WATCHED}:impatient") as quick,
        before(quick) as proxy,
        raw_get(proxy.port, "/native?quiet=60") as answer,
    ):
        assert b"placed" in answer.chunk()
        assert [answer.chunk() for _ in range(20)] == [b": ping\n\n"] * 20


def test_the_upstream_feed_ends_when_nginx_cuts_or_its_client_leaves(
    watched: Server,
) -> None:
    with before(watched) as proxy:
        with raw_get(proxy.port, "/by-hand?quiet=60&ping=60") as answer:
            assert b"placed" in answer.chunk()
            watched.expect("over 1.")
        with raw_get(proxy.port, "/by-hand?quiet=60&ping=0.25") as answer:
            read_pings(answer, 2)
        watched.expect("over 2.")
    assert counts(watched)["feeds"] == 0


def curl(command: str, url: str) -> subprocess.CompletedProcess[str]:
    """Run a curl command as a page prints it."""
    page = (ROOT / "docs/recipes/sse_keepalive.md").read_text("utf-8")
    assert f"\n{command}\n" in page
    program = shutil.which("curl") or need("curl", "apt-get install curl")
    line = command.replace(clients.PRINTED, url).replace("curl", f"{program} -q", 1)
    return subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, timeout=20
    )


IMPATIENT = "curl -N --speed-limit 1 --speed-time 2 'http://127.0.0.1:8000/"


def test_an_impatient_curl_gives_a_silent_feed_up(server: Server) -> None:
    done = curl(f"{IMPATIENT}native?quiet=12'", server.url)
    assert '"placed"' in done.stdout
    assert '"delivered"' not in done.stdout
    assert "curl: (28) Operation too slow" in done.stderr


def test_and_waits_for_the_end_of_one_that_pings(server: Server) -> None:
    done = curl(f"{IMPATIENT}by-hand?quiet=12&ping=1'", server.url)
    assert done.stdout.count("event: ping") >= 5
    assert '"delivered"' in done.stdout
    assert done.returncode == 0


# Clients that leave


def test_200_clients_that_break_off_leave_nothing_behind(watched: Server) -> None:
    for path in ROUTES:
        with raw_get(watched.port, f"{path}?quiet=0.1&ping=0.1") as answer:
            answer.rest()
    watched.expect(f"over {len(ROUTES)}.")
    idle = counts(watched)
    for number in range(MANY):
        path = ROUTES[number % 4]
        with raw_get(watched.port, f"{path}?quiet=3600&ping=0.1") as answer:
            # Some leave before the first event, some after it, some after a ping.
            if number % 3:
                assert b"placed" in answer.chunk()
                if number % 20 in (1, 3, 8):
                    assert answer.chunk() in PINGS
            answer.abort()
    watched.expect(f"over {MANY + len(ROUTES)}.")
    assert counts(watched) == idle
    assert idle["feeds"] == 0
    assert "Traceback" not in watched.output()
    assert "ERROR" not in watched.output()


def test_so_do_clients_that_are_there_at_the_same_time(watched: Server) -> None:
    idle = counts(watched)
    with ExitStack() as stack:
        path = "/by-hand?quiet=3600&ping=0.1"
        answers = [
            stack.enter_context(raw_get(watched.port, path)) for _ in range(MANY)
        ]
        for answer in answers:
            read_pings(answer, 2)
        assert counts(watched)["feeds"] == MANY
        for answer in answers:
            answer.abort()
    watched.expect(f"over {MANY}.")
    assert counts(watched) == idle
    assert "Traceback" not in watched.output()


@pytest.mark.parametrize("path", ROUTES)
def test_a_client_that_never_reads_leaves_nothing_behind_either(path: str) -> None:
    with uvicorn("--factory", f"{WATCHED}:flooding") as server:
        idle = counts(server)
        with raw_get(server.port, f"{path}?ping=0.1"):
            server.expect("state 0")
        server.expect("over 1.")
        assert {**counts(server), "worker": 0} == {**idle, "worker": 0}
        assert "Traceback" not in server.output()
        # It was not told all: what waits for a client is bounded.
        assert "state 9\n" not in server.output()


# Servers


@every_server
def test_the_first_state_is_there_before_the_second_is_made(start: Start) -> None:
    with start("recipes.sse_keepalive:app") as server:
        for path in ROUTES:
            with raw_get(server.port, f"{path}?quiet=3600") as answer:
                assert b"placed" in answer.chunk()


@every_server
def test_the_feed_is_kept_alive(start: Start) -> None:
    with start("recipes.sse_keepalive:app") as server:
        for path in PINGING:
            with raw_get(server.port, f"{path}?quiet=0.55&ping=0.1") as answer:
                body = [answer.chunk() for _ in range(3)]
                rest = answer.rest()
            assert b"placed" in body[0]
            assert {*body[1:]} <= PINGS
            assert b"delivered" in rest


COUNTED = {
    servers.uvicorn: ["--factory", f"{WATCHED}:uncollected"],
    servers.hypercorn: [f"{WATCHED}:uncollected()"],
    servers.granian: [f"{WATCHED}:uncollected", "--factory"],
}


@every_server
def test_a_client_that_leaves_early_ends_the_feed(start: Start) -> None:
    with start(*COUNTED[start]) as server:
        idle = counts(server)["feeds"], 0
        for number, path in enumerate(ROUTES, start=1):
            with raw_get(server.port, f"{path}?quiet=3600&ping=0.1") as answer:
                assert b"placed" in answer.chunk()
            server.expect(f"over {number}.")
            assert counts(server)["feeds"] == 0
    assert idle == (0, 0)


def test_two_workers_serve_a_feed_each_and_share_nothing() -> None:
    app = ["--factory", f"{WATCHED}:uncollected"]
    with uvicorn(*app, "--workers", "2") as server, ExitStack() as stack:
        path = "/by-hand?quiet=3600&ping=0.1"
        answers = [stack.enter_context(raw_get(server.port, path)) for _ in range(20)]
        for answer in answers:
            read_pings(answer, 3)
        by_worker: dict[object, int] = {}

        def all_counted() -> bool:
            about = counts(server)
            by_worker[about["worker"]] = int(str(about["feeds"]))
            return sum(by_worker.values()) == 20

        servers.until(all_counted, "the worker that has the other feeds")


# Clients of the page


def test_the_python_client_prints_the_states_and_the_pings(
    server: Server, tmp_path: Path
) -> None:
    done = clients.run("sse_keepalive.py", server.url, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    first, *pings, last = done.stdout.splitlines()
    assert first == 'order {"id":7,"state":"placed"}'
    assert last == 'order {"id":7,"state":"delivered"}'
    # The silence is longer than what the client stands; the pings are not.
    assert 3 <= len(pings) <= 5
    assert {*pings} == {"ping {}"}


def test_the_javascript_client_prints_the_states_and_the_pings(
    server: Server, tmp_path: Path
) -> None:
    done = clients.run("sse_keepalive.mjs", server.url, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    first, *pings, last = done.stdout.splitlines()
    assert (first, last) == ("placed", "delivered")
    assert 3 <= len(pings) <= 5
    assert {*pings} == {"ping"}


@pytest.mark.parametrize("client", ["sse_keepalive.py", "sse_keepalive.mjs"])
def test_each_notices_a_connection_that_died_without_a_word(
    client: str, tmp_path: Path
) -> None:
    with uvicorn("--factory", f"{WATCHED}:silent") as server:
        done = clients.run(client, server.url, tmp_path)
    assert "placed" in done.stdout
    assert "Silent for 3 seconds: the connection has died." in done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize("client", ["sse_keepalive.py", "sse_keepalive.mjs"])
def test_each_says_so_if_the_feed_stops_before_its_end(
    client: str, tmp_path: Path
) -> None:
    with uvicorn("--factory", f"{WATCHED}:short") as server:
        done = clients.run(client, server.url, tmp_path)
    assert "placed" in done.stdout
    assert "The feed stopped before its end." in done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize("client", ["sse_keepalive.py", "sse_keepalive.mjs"])
def test_each_checks_the_status_first(client: str, tmp_path: Path) -> None:
    # This server knows neither route.
    with uvicorn("recipes.plain_text:app") as server:
        done = clients.run(client, server.url, tmp_path)
    assert done.stdout == ""
    assert "404" in done.stderr
    assert done.returncode == 1
