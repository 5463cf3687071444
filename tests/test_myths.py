"""docs/pitfalls/myths.md: the verdicts that no other test proves."""

import asyncio
import select
import socket
import threading
from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest
from fastapi import Depends, FastAPI, Response
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from starlette.middleware.gzip import GZipMiddleware

from cookbook.background import serving
from recipes import sse_basic
from tests.kit import servers
from tests.kit.asgi import drive, note
from tests.kit.nginx import nginx
from tests.kit.servers import raw_get, uvicorn

# An application of a server of its own: a feed that waits for the test.
app = FastAPI()
go = asyncio.Event()
FIRST, LAST = b"data: first\n\n", b"data: last\n\n"


@app.get("/events")
async def feed(accel: str = "") -> StreamingResponse:
    """Send an event, wait for `/go`, and send another one."""

    async def events() -> AsyncIterator[bytes]:
        yield FIRST
        await go.wait()
        yield LAST

    headers = {"cache-control": "no-cache"}
    if accel:
        headers["x-accel-buffering"] = accel
    return StreamingResponse(events(), 200, headers, "text/event-stream")


@app.get("/go")
async def let_go() -> Response:
    """Let every feed end."""
    go.set()
    return Response(status_code=204)


@pytest.mark.timeout(servers.START + servers.WAIT)
def test_nginx_holds_a_feed_with_cache_control_no_cache() -> None:
    # As nginx did before 1.29.7; h11 then sends a body without chunks.
    with (
        uvicorn("tests.test_myths:app", "--http", "h11") as server,
        nginx(
            f"location / {{ proxy_pass {server.url}; proxy_http_version 1.0; }}"
        ) as proxy,
    ):
        url = f"{proxy.url}/events"
        with httpx2.stream("GET", f"{url}?accel=no", timeout=servers.WAIT) as told:
            assert told.headers["cache-control"] == "no-cache"
            assert next(told.iter_raw()) == FIRST
        connection = _asked(proxy.port, "/events")
        with connection, raw_get(server.port, "/events") as direct:
            # This client has the first event, and the one behind nginx has nothing.
            assert direct.chunk() == FIRST
            assert not select.select([connection], [], [], 0)[0]
            with raw_get(server.port, "/go"):
                pass
            with connection.makefile("rb") as stream:
                assert FIRST + LAST in stream.read()


def _asked(port: int, path: str) -> socket.socket:
    connection = socket.create_connection((servers.HOST, port), servers.WAIT)
    head = f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n"
    connection.sendall(head.encode())
    return connection


def test_fastapis_event_stream_has_no_header_connection_and_streams() -> None:
    run = drive(sse_basic.app, "/native", stall_at=2, disconnect_at=2)
    assert "connection" not in run.headers
    assert len(run.chunks) == 1
    # What sse-starlette adds changes nothing in what is sent.
    assert drive(sse_basic.app, "/sse-starlette").headers["connection"] == "keep-alive"


@pytest.mark.parametrize("identity", [False, True])
def test_content_encoding_identity_switches_gzip_off(identity: bool) -> None:
    packing = FastAPI()
    packing.add_middleware(GZipMiddleware, minimum_size=0)

    @packing.get("/orders")
    def orders() -> StreamingResponse:
        headers = {"content-encoding": "identity"} if identity else {}
        return StreamingResponse(iter([b"tea\n"]), headers=headers)

    run = drive(packing, "/orders", headers={"accept-encoding": "gzip"})
    expected = "identity" if identity else "gzip"
    assert run.headers["content-encoding"] == expected


@pytest.mark.parametrize(("room", "piles_up"), [(0, True), (10, False)])
def test_a_sleep_of_0_lets_a_queue_grow_without_end(room: int, piles_up: bool) -> None:
    queue = asyncio.Queue[bytes](room)
    feeding = FastAPI()

    async def produce() -> None:
        while True:
            await queue.put(b"row\n")
            await asyncio.sleep(0)

    async def producer() -> AsyncIterator[None]:
        producing = asyncio.create_task(produce())
        yield
        note(f"{queue.qsize()} wait")
        producing.cancel()

    @feeding.get("/rows", dependencies=[Depends(producer)])
    async def rows() -> StreamingResponse:
        async def taken() -> AsyncIterator[bytes]:
            while True:
                yield await queue.get()
                await asyncio.sleep(0)  # A full queue alone never gives way.

        return StreamingResponse(taken())

    # The client stops reading, so `send` waits; nothing stops the producer.
    run = drive(feeding, "/rows", stall_at=2, disconnect_at=2)
    (line,) = [line for line in run.journal if line.endswith(" wait")]
    assert (int(line.split()[0]) > 10) == piles_up


@pytest.mark.timeout(servers.START)
def test_a_chunk_goes_out_although_the_generator_never_awaits() -> None:
    received = threading.Event()
    bursting = FastAPI()

    @bursting.get("/rows")
    async def rows() -> StreamingResponse:
        async def without_await() -> AsyncIterator[bytes]:
            yield b"first\n"
            # The event loop stands still until the client has the first chunk.
            assert received.wait(servers.WAIT)
            yield b"second\n"

        return StreamingResponse(without_await())

    with (
        serving(bursting) as url,
        httpx2.stream("GET", f"{url}/rows", timeout=servers.WAIT) as answer,
    ):
        parts = answer.iter_raw()
        assert next(parts) == b"first\n"
        received.set()
        assert b"".join(parts) == b"second\n"


def test_the_test_client_reads_from_a_stream_that_never_ends() -> None:
    endless = FastAPI()

    @endless.get("/ticks")
    def ticks() -> StreamingResponse:
        def forever() -> Iterator[bytes]:
            while True:
                yield b"tick\n"

        return StreamingResponse(forever())

    with TestClient(endless).stream("GET", "/ticks") as answer:
        lines = answer.iter_lines()
        assert [next(lines) for _ in range(3)] == ["tick"] * 3
