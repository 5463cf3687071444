"""Servers start, are read chunk by chunk, and end with everything they began."""

import asyncio
import gc
import signal
import socket
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.sse import EventSourceResponse
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from tests.kit import servers
from tests.kit.servers import Server, free_port, need, raw_get, serve, uvicorn

pytestmark = pytest.mark.timeout(servers.START + 10)

BIG = "x" * 1_000_000  # characters; a few of them fill every buffer on the way


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


async def rows(row: str) -> AsyncIterator[str]:
    try:
        while True:
            await asyncio.sleep(0)
            yield row
    finally:
        say("finally")


@asynccontextmanager
async def without_a_collector(_: FastAPI) -> AsyncIterator[None]:
    gc.disable()
    yield


shop = FastAPI(lifespan=without_a_collector)


@shop.get("/short")
async def short() -> StreamingResponse:
    return StreamingResponse(row for row in ["1\n", "two\n"])


@shop.get("/cut")
async def cut() -> StreamingResponse:
    async def failing() -> AsyncIterator[str]:
        yield "1\n"
        raise ValueError("no more tea")

    return StreamingResponse(failing())


@shop.get("/plain")
async def plain() -> StreamingResponse:
    return StreamingResponse(rows(BIG))


@shop.get("/native", response_class=EventSourceResponse)
async def native() -> AsyncIterator[str]:
    try:
        while True:
            await asyncio.sleep(0)
            yield BIG
    finally:
        say("finally")


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    try:
        await shop(scope, receive, send)
    finally:
        say(f"{scope.get('path')} is over")


@pytest.fixture(scope="module", params=[False, True], ids=["cold", "warm"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with uvicorn("tests.kit.test_servers:app", warm=request.param) as running:
        yield running


def test_a_response_is_read_one_chunk_at_a_time(server: Server) -> None:
    with raw_get(server.port, "/short") as answer:
        assert answer.head.startswith("HTTP/1.1 200 OK\r\n")
        assert "transfer-encoding: chunked" in answer.head
        assert [answer.chunk() for _ in range(3)] == [b"1\n", b"two\n", b""]


def test_the_rest_of_a_response_is_read_at_once(server: Server) -> None:
    with raw_get(server.port, "/short", {"X-Shop": "tea"}) as answer:
        assert answer.chunk() == b"1\n"
        assert answer.rest() == b"two\n"


def test_a_response_that_is_cut_off_is_an_error(server: Server) -> None:
    with raw_get(server.port, "/cut") as answer:
        assert answer.chunk() == b"1\n"
        with pytest.raises(EOFError, match="cut off"):
            answer.chunk()


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
def test_a_client_that_leaves_ends_a_plain_response_at_its_next_await(
    server: Server, reset: bool
) -> None:
    with raw_get(server.port, "/plain") as answer:
        answer.chunk()
        if reset:
            answer.abort()
    assert "finally" in server.expect("/plain is over")


def test_a_client_that_leaves_a_native_event_stream_leaves_its_generator_at_the_yield(
    server: Server,
) -> None:
    with raw_get(server.port, "/native") as answer:
        answer.chunk()
    assert "finally" not in server.expect("/native is over")


def script(tmp_path: Path, code: str) -> list[str]:
    path = tmp_path / "server.py"
    path.write_text(textwrap.dedent(code), "utf-8")
    return [sys.executable, "-u", str(path)]


LISTENS = """
    import os, signal, socket, sys, time
    listener = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
    print("shop is open")
"""


def test_a_server_that_dies_at_the_start_is_an_error_with_its_output(
    tmp_path: Path,
) -> None:
    argv = script(tmp_path, "raise SystemExit('the kettle is broken')")
    with (
        pytest.raises(AssertionError, match=r"ended with 1:\nthe kettle is broken"),
        serve(argv, free_port()),
    ):
        pass


def test_a_server_that_never_listens_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "START", 0.1)
    port = free_port()
    argv = script(tmp_path, "import signal; signal.pause()")
    with (
        pytest.raises(AssertionError, match=f"did not listen on {port} within 0.1 s"),
        serve(argv, port),
    ):
        pass


def test_a_test_that_fails_shows_the_output_and_ends_the_server(tmp_path: Path) -> None:
    port = free_port()
    argv = script(tmp_path, LISTENS + "    signal.pause()")
    failing: list[Server] = []

    def fail() -> None:
        with serve(argv, port, env={"PORT": str(port)}) as server:
            failing.append(server)
            server.expect("shop is open")
            raise ValueError("no more tea")

    with pytest.raises(ValueError, match="no more tea") as failure:
        fail()
    assert "shop is open" in failure.value.__notes__[0]
    assert failing[0].process.returncode == -signal.SIGTERM
    assert failing[0] not in servers.running


def test_a_server_that_ignores_sigterm_is_killed_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "STOP", 0.1)
    port = free_port()
    life = """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    is_child = os.fork() == 0
    print("child" if is_child else "parent", "is ready")
    signal.pause()
    """
    argv = script(tmp_path, LISTENS + life)
    with serve(argv, port, env={"PORT": str(port)}) as server:
        server.expect("is ready")
        server.expect("is ready")
    assert server.process.returncode == -signal.SIGKILL
    # The child held the listening socket too.
    assert not listens_for_long(port)


def listens_for_long(port: int) -> bool:
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return False
        time.sleep(servers.POLL)
    return True


def test_a_server_that_ends_by_itself_gives_its_exit_code(tmp_path: Path) -> None:
    port = free_port()
    argv = script(tmp_path, LISTENS + "    listener.accept(); sys.exit(7)")
    with serve(argv, port, env={"PORT": str(port)}) as server:
        assert server.wait() == 7


@pytest.mark.parametrize("warm", [False, True])
def test_uvicorn_ends_at_sigterm(warm: bool) -> None:
    quiet = ("--log-level", "error")
    with uvicorn("tests.kit.test_servers:app", *quiet, warm=warm) as server:
        server.signal(signal.SIGTERM)
        assert server.wait() in (0, -signal.SIGTERM)
    assert "Uvicorn running" not in server.output()


def test_output_that_does_not_come_is_an_error_with_what_came(server: Server) -> None:
    with pytest.raises(AssertionError, match=r"did not write 'tea'(.|\n)*Uvicorn runn"):
        server.expect("tea", 0.05)


def test_a_free_port_can_be_listened_on() -> None:
    port = free_port()
    assert 10_080 < port < 32_768
    with socket.create_server(("127.0.0.1", port)):
        pass


EITHER = (pytest.skip.Exception, pytest.fail.Exception)


def test_a_missing_program_is_a_skip_that_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(EITHER, match="kettle is missing: buy one") as outcome:
        need("kettle", "buy one")
    assert outcome.type is pytest.skip.Exception


def test_a_missing_program_is_a_failure_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(EITHER, match="kettle is missing: buy one") as outcome:
        need("kettle", "buy one")
    assert outcome.type is pytest.fail.Exception
