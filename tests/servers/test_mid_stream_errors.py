"""docs/recipes/mid_stream_errors.md: what goes over real connections, and the log."""

import json
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path

import httpx2
import psutil
import pytest

from tests.kit import clients, servers
from tests.kit.changed import changed
from tests.kit.nginx import nginx
from tests.kit.servers import HOST, WAIT, Server, raw_get, until, uvicorn
from tests.kit.sse import parse

pytestmark = pytest.mark.timeout(2 * servers.START)

APP = "recipes.mid_stream_errors:app"
WATCHED = "tests.servers.watched_mid_stream_errors:"
EVENTS = ("/native", "/sse-starlette", "/by-hand")
ROUTES = (*EVENTS, "/ndjson", "/text")
TEXT = b"1 green tea\n2 tea pot\n3 honey\n"
Start = Callable[[], AbstractContextManager[Server]]
SERVERS: dict[str, Start] = {
    "uvicorn": partial(uvicorn, APP),
    "h11": partial(uvicorn, APP, "--http", "h11"),
    "hypercorn": partial(servers.hypercorn, APP),
    "granian": partial(servers.granian, APP),
}


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with SERVERS[request.param]() as running:
        yield running


@pytest.fixture(scope="module")
def recipe() -> Iterator[Server]:
    with uvicorn(APP) as running:
        yield running


@pytest.mark.parametrize("path", EVENTS)
def test_failed_is_the_last_event_and_then_the_answer_ends(
    server: Server, path: str
) -> None:
    with raw_get(server.port, path) as answer:
        events = parse([answer.rest()]).events
    assert [event.event for event in events] == ["order"] * 3 + ["failed"]
    assert json.loads(events[-1].data)["orders"] == 3


def test_failed_is_the_last_line_and_then_the_answer_ends(server: Server) -> None:
    with raw_get(server.port, "/ndjson") as answer:
        lines = [json.loads(line) for line in answer.rest().splitlines()]
    assert [line["type"] for line in lines] == ["order"] * 3 + ["failed"]


def test_text_breaks_off_after_the_orders_that_came(server: Server) -> None:
    received: list[bytes] = []
    with raw_get(server.port, "/text") as answer, pytest.raises(EOFError):
        received.extend(iter(answer.chunk, b""))
    assert b"".join(received) == TEXT


@pytest.mark.parametrize("path", ROUTES)
def test_before_the_first_order_the_status_is_503(server: Server, path: str) -> None:
    answer = httpx2.get(f"{server.url}{path}?fail_at=1", timeout=WAIT)
    assert answer.status_code == 503
    assert answer.json()["detail"]["reference"] == answer.headers["x-request-id"]


def by_http_1_0(server: Server) -> bytes:
    """Ask for the text as an old client does, and give the body up to the close."""
    with socket.create_connection((HOST, server.port), WAIT) as connection:
        connection.sendall(b"GET /text HTTP/1.0\r\n\r\n")
        with suppress(ConnectionError):
            return connection.makefile("rb").read().partition(b"\r\n\r\n")[2]
    return b"reset"


def test_over_http_1_0_only_one_server_lets_the_client_see_it(server: Server) -> None:
    body = by_http_1_0(server)
    if "h11" in server.argv or "uvicorn" not in server.argv:
        # The body ends with the connection: this one looks complete.
        assert body == TEXT
    else:
        # Chunks, without the last one: who reads them sees that they break off.
        assert body.startswith(b"c\r\n1 green tea\n")
        assert not body.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize(("version", "code"), [("1.0", 0), ("1.1", 18)])
def test_nginx_takes_it_for_complete_if_it_asks_by_http_1_0(
    version: str, code: int
) -> None:
    with uvicorn(APP, "--http", "h11") as behind:
        way = f"proxy_http_version {version}; proxy_pass {behind.url};"
        with nginx(f"location / {{ {way} }}") as front:
            done = subprocess.run(
                ["curl", "-qsS", f"{front.url}/text"], capture_output=True, timeout=WAIT
            )
    assert (done.stdout, done.returncode) == (TEXT, code)


def log_of(server: Server) -> str:
    """Give what the server has written once it has answered another request."""
    httpx2.get(f"{server.url}/openapi.json")
    return server.output()


@pytest.mark.parametrize("path", [*EVENTS, "/ndjson"])
def test_the_log_has_one_traceback_under_the_reference(
    recipe: Server, path: str
) -> None:
    reference = httpx2.get(recipe.url + path).headers["x-request-id"]
    line = f"ERROR:    Feed {reference} failed after 3 orders\nTraceback"
    assert log_of(recipe).count(line) == 1
    assert "Exception in ASGI application" not in recipe.output().partition(line)[2]


def test_for_text_the_log_has_a_second_one(recipe: Server) -> None:
    with httpx2.stream("GET", f"{recipe.url}/text") as response:
        reference = response.headers["x-request-id"]
        with pytest.raises(httpx2.RemoteProtocolError):
            response.read()
    log = log_of(recipe)
    assert log.count(f"Feed {reference} failed after 3 orders") == 1
    assert log.count(f"ConnectionAbortedError: Feed {reference} is not complete") == 1


def until_none_is_open(server: Server) -> None:
    """Wait until every source is closed."""
    is_open = f"{server.url}/open"
    until(lambda: not httpx2.get(is_open).json(), "all sources to be closed")


def test_nothing_is_left_of_two_hundred_clients_that_vanish() -> None:
    with uvicorn("--factory", f"{WATCHED}trickling") as server:
        for path in ROUTES * 40:
            with raw_get(server.port, path) as answer:
                assert b"tea" in answer.chunk()
                answer.abort()
        until_none_is_open(server)
        log = log_of(server)
    assert "Traceback" not in log
    assert "failed after" not in log
    assert log.count('" 200 OK') >= 200


@pytest.mark.parametrize("path", ROUTES)
def test_nor_of_one_that_never_reads(path: str) -> None:
    with uvicorn("--factory", f"{WATCHED}flooding") as server:
        with raw_get(server.port, path) as answer:
            assert b"tea" in answer.chunk()
            # No more is made: FastAPI's layer is a few orders ahead.
            server.expect("order 6" if path == "/native" else "order 2")
            assert httpx2.get(f"{server.url}/open").json() == 1
        until_none_is_open(server)
        log = log_of(server)
    assert "Traceback" not in log
    assert "failed after" not in log


def test_of_two_workers_one_that_dies_takes_only_its_own_streams() -> None:
    options = ("--factory", f"{WATCHED}trickling", "--workers", "2")
    with uvicorn(*options) as server, raw_get(server.port, "/native") as answer:
        assert b"tea" in answer.chunk()
        workers = psutil.Process(server.process.pid).children(recursive=True)
        mine = next(one for one in workers if holds(one, answer))
        mine.send_signal(signal.SIGKILL)
        # Nobody is left who could send `failed`.
        with pytest.raises((EOFError, ConnectionError)):
            answer.rest()
        with raw_get(server.port, "/native") as other:
            assert b"tea" in other.chunk()


def holds(process: psutil.Process, answer: servers.Answer) -> bool:
    """Tell whether a process has the other end of a connection."""
    here = answer.connection.getsockname()
    return any(tuple(found.raddr) == here for found in process.net_connections())


CLIENTS = ["mid_stream_errors.py", "mid_stream_errors.mjs"]
every_client = pytest.mark.parametrize("name", CLIENTS)
PRINTED = ["1 green tea", "2 tea pot", "3 honey"]


@every_client
def test_a_client_prints_the_orders_and_says_that_it_failed(
    recipe: Server, name: str, tmp_path: Path
) -> None:
    done = clients.run(name, recipe.url, tmp_path)
    assert done.stdout.splitlines() == PRINTED
    assert re.search(r"Failed after 3 orders\. Reference: [0-9a-f]{16}\n", done.stderr)
    assert done.returncode == 1


@every_client
def test_a_client_says_that_the_orders_are_complete(name: str, tmp_path: Path) -> None:
    with uvicorn("--factory", f"{WATCHED}complete") as server:
        done = clients.run(name, server.url, tmp_path)
    assert done.stdout.splitlines()[-2:] == ["5 tea cosy", "Complete: 5 orders."]
    assert (done.returncode, done.stderr) == (0, "")


@every_client
def test_a_client_says_that_the_connection_broke(name: str, tmp_path: Path) -> None:
    with uvicorn("tests.kit.uncaught:app") as server:
        done = clients.run(name, server.url, tmp_path)
    assert "The connection broke: " in done.stderr
    assert "Not complete: the " in done.stderr
    assert "Complete" not in done.stdout
    assert done.returncode == 1


@every_client
def test_a_client_looks_at_the_status_first(name: str, tmp_path: Path) -> None:
    with uvicorn("--factory", f"{WATCHED}down") as server:
        done = clients.run(name, server.url, tmp_path)
    assert done.stdout == ""
    assert '503: {"detail":{"type":"failed","orders":0,' in done.stderr
    assert done.returncode == 1


def test_break_it_without_the_last_item_only_a_client_that_waits_for_it_sees_it(
    recipe: Server, tmp_path: Path
) -> None:
    before = clients.run("mid_stream_errors.py", recipe.url, tmp_path)
    assert before.stderr.startswith("Failed after 3 orders. Reference: ")
    folder = changed(tmp_path, "mid_stream_errors", "    yield last\n", "")
    with uvicorn(APP, cwd=folder) as broken:
        done = clients.run("mid_stream_errors.py", broken.url, tmp_path)
        assert done.stdout.splitlines() == PRINTED
        assert done.stderr == "Not complete: the feed has no end.\n"
        for path in ("/native", "/text"):
            curl = subprocess.run(
                ["curl", "-qsSN", broken.url + path], capture_output=True, timeout=WAIT
            )
            assert (curl.returncode, curl.stderr) == (0, b"")
            assert b"honey" in curl.stdout
            assert b"failed" not in curl.stdout
