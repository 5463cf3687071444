"""docs/recipes/sse_basic.md: its claims about a real server, its log and its stop."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from recipes.sse_basic import END
from tests.kit import clients, servers
from tests.kit.servers import Server, raw_get, uvicorn
from tests.kit.sse import parse

pytestmark = pytest.mark.timeout(servers.START + 10)

PLAIN = ("tests.servers.endless:app",)
IMPORTED = ("--factory", "tests.servers.endless:with_sse_starlette")
WAITING = "Waiting for connections to close"
STOPS = [signal.SIGINT, signal.SIGTERM]
ROUTES = ["/native", "/by-hand", "/sse-starlette"]
# What a feed has made when nothing more fits: FastAPI makes four events ahead.
STALLED = {"/native": "event 5", "/by-hand": "event 1", "/sse-starlette": "event 1"}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with uvicorn("recipes.sse_basic:app") as running:
        yield running


@pytest.mark.parametrize("path", ROUTES)
def test_an_event_is_a_chunk_on_the_wire(server: Server, path: str) -> None:
    with raw_get(server.port, path) as answer:
        chunks = list(iter(answer.chunk, b""))
    assert [len(parse([chunk]).events) for chunk in chunks] == [1] * 6
    assert parse(chunks).last_event_id == END


def test_the_python_client_prints_the_feed_up_to_its_end(
    server: Server, tmp_path: Path
) -> None:
    done = clients.run("sse_basic.py", server.url, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        '1 order {"id":7,"state":"placed"}',
        '2 order {"id":7,"state":"paid"}',
        '3 order {"id":7,"state":"packed"}',
        '4 order {"id":7,"state":"shipped"}',
        "5 note Leave it at the door.",
        "Ring twice.",
        "end end {}",
    ]


def test_the_python_client_says_so_if_the_feed_stops_before_its_end(
    tmp_path: Path,
) -> None:
    with uvicorn("--factory", "tests.servers.watched_sse_basic:short") as server:
        done = clients.run("sse_basic.py", server.url, tmp_path)
    assert done.stdout == "1 order {}\n2 order {}\n"
    assert done.stderr == "The feed stopped before its end.\n"
    assert done.returncode == 1


def test_the_python_client_checks_the_status_first(tmp_path: Path) -> None:
    # This server knows no /native.
    with uvicorn("recipes.plain_text:app") as server:
        done = clients.run("sse_basic.py", server.url, tmp_path)
    assert done.stdout == ""
    assert "404 Not Found" in done.stderr
    assert done.returncode == 1


def log_of(server: Server, path: str) -> list[str]:
    """Wait until the request is over, and give what the server wrote about it."""
    server.expect("over")
    # Answered after whatever is still to be written about the first request.
    with raw_get(server.port, "/"):
        server.expect("over")
    lines = server.output().split('"GET / ')[0].splitlines()
    begun = next(n for n, line in enumerate(lines) if f'"GET {path} ' in line)
    ours = ("event ", "asked ")
    return [line for line in lines[begun:-1] if not line.startswith(ours)]


@pytest.mark.parametrize("path", ROUTES)
def test_uvicorn_logs_nothing_when_a_client_leaves(path: str) -> None:
    with uvicorn("tests.servers.watched_sse_basic:app") as server:
        with raw_get(server.port, path) as answer:
            assert b"placed" in answer.chunk()
        log = log_of(server, path)
    # The only line about the request was written when it began.
    assert log[0].endswith(f'"GET {path} HTTP/1.1" 200 OK')
    assert log[1:] == ["over"]


@pytest.mark.parametrize("path", ROUTES)
def test_nor_when_a_client_leaves_that_was_too_slow(path: str) -> None:
    with uvicorn("--factory", "tests.servers.watched_sse_basic:flooding") as server:
        with raw_get(server.port, path):
            server.expect(STALLED[path])
        assert log_of(server, path)[1:] == ["over"]


def test_without_the_dependency_fastapi_has_an_error_logged() -> None:
    with uvicorn("--factory", "tests.servers.watched_sse_basic:unguarded") as server:
        with raw_get(server.port, "/native"):
            server.expect(STALLED["/native"])
        log = log_of(server, "/native")
    assert log[1:3] == ["over", "ERROR:    Exception in ASGI application"]
    assert log[-2].strip() == "| anyio.BrokenResourceError"
    assert 50 < len(log) < 90


@pytest.mark.parametrize("path", ROUTES)
def test_an_error_of_the_feed_is_logged_all_the_same(path: str) -> None:
    with uvicorn("--factory", "tests.servers.watched_sse_basic:failing") as server:
        with raw_get(server.port, path) as answer, pytest.raises(EOFError):
            answer.rest()
        log = "\n".join(log_of(server, path))
    assert log.count("Exception in ASGI application") == 1
    assert log.count("ValueError: no such order") >= 1


@pytest.mark.parametrize("stop", STOPS, ids=lambda stop: stop.name)
@pytest.mark.parametrize("path", ["/plain", "/native"])
@pytest.mark.parametrize("app", [PLAIN, IMPORTED], ids=["alone", "sse-starlette too"])
def test_by_hand_and_in_fastapi_a_server_that_is_stopped_waits_for_its_streams(
    app: tuple[str, ...], path: str, stop: signal.Signals
) -> None:
    with uvicorn(*app) as server:
        with raw_get(server.port, path) as answer:
            assert b"placed" in answer.chunk()
            server.signal(stop)
            server.expect(WAITING)
            with pytest.raises(AssertionError, match="did not end within"):
                server.wait(0.5)
            assert "cleaned up" not in server.output()
        # Only its client's leaving lets it go.
        assert server.wait() in (0, -stop)
    assert "cleaned up" in server.output()


@pytest.mark.parametrize("stop", STOPS, ids=lambda stop: stop.name)
def test_a_server_that_is_stopped_has_sse_starlette_end_its_streams(
    stop: signal.Signals,
) -> None:
    with uvicorn(*IMPORTED) as server, raw_get(server.port, "/sse-starlette") as answer:
        assert b"placed" in answer.chunk()
        server.signal(stop)
        assert server.wait() in (0, -stop)
        assert "cleaned up" in server.output()
        # The stream ends without its last chunk, and uvicorn says so.
        with pytest.raises(EOFError, match="cut off"):
            answer.chunk()
        assert "callable returned without completing response" in server.output()
