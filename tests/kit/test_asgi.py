"""The driver behaves as uvicorn does, and shows how responses end."""

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
from fastapi import Depends, FastAPI, Request
from fastapi.sse import EventSourceResponse
from sse_starlette import EventSourceResponse as ClosingEventSourceResponse
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.kit import asgi
from tests.kit.asgi import Frozen, drive, note
from tests.kit.servers import WAIT


async def rows(count: int = 5) -> AsyncIterator[str]:
    """Make rows as a good producer does: it awaits before each of them."""
    try:
        for n in range(1, count + 1):
            await asyncio.sleep(0)
            note("row")
            yield f"{n}\n"
    finally:
        note("finally")


async def rows_without_await() -> AsyncIterator[str]:
    while True:
        note("row")
        yield "x"


def rows_in_a_thread(count: int = 5) -> Iterator[str]:
    try:
        for n in range(1, count + 1):
            note("row")
            yield f"{n}\n"
    finally:
        note("finally")


def slow_query() -> None:
    time.sleep(0.001)


def answer(respond: Callable[[], Response]) -> ASGIApp:
    """Make an app that gives this response to everything but `/ping`."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        response = PlainTextResponse("pong") if scope["path"] == "/ping" else respond()
        await response(scope, receive, send)

    return app


plain = answer(lambda: StreamingResponse(rows()))
closing = answer(lambda: ClosingEventSourceResponse(rows()))
buffered = answer(lambda: PlainTextResponse("1\n2\n3\n4\n5\n"))


async def dependency() -> AsyncIterator[None]:
    yield
    note("dependency closed")


shop = FastAPI(dependencies=[Depends(dependency)])


@shop.get("/native", response_class=EventSourceResponse)
@shop.get("/route", response_class=StreamingResponse)
async def events() -> AsyncIterator[str]:
    try:
        while True:
            await asyncio.sleep(0)
            yield "x"
    finally:
        note("finally")


@shop.get("/sync")
def from_a_thread() -> StreamingResponse:
    return StreamingResponse(rows_in_a_thread(1000))


def test_a_whole_answer_is_collected() -> None:
    run = drive(plain, "/")
    assert run.status == 200
    assert run.chunks == [b"1\n", b"2\n", b"3\n", b"4\n", b"5\n"]
    assert run.body == b"1\n2\n3\n4\n5\n"
    assert run.error is None
    assert run.journal[:5] == ["start 200", "row", "chunk 1", "row", "chunk 2"]
    assert run.journal[-3:] == ["finally", "end", "returned"]


def test_rows_made_before_a_chunk_can_be_counted() -> None:
    assert drive(plain, "/").before("chunk 3").count("row") == 3


def test_a_buffered_body_is_told_from_a_stream() -> None:
    def respond() -> Response:
        return PlainTextResponse("".join(rows_in_a_thread()))

    assert drive(answer(respond), "/").before("chunk 1").count("row") == 5
    assert drive(plain, "/").before("chunk 1").count("row") == 1


def test_the_request_reaches_the_app() -> None:
    app = FastAPI()

    @app.post("/orders/{name}")
    async def order(name: str, tag: str, request: Request) -> list[str | None]:
        body = (await request.body()).decode()
        return [name, tag, request.headers.get("x-shop"), body, request.url.path]

    run = drive(
        app,
        "/orders/cr%C3%A8me?tag=a%26b",
        method="POST",
        headers={"X-Shop": "tea"},
        body=b"two",
    )
    assert run.body.decode() == '["crème","a&b","tea","two","/orders/crème"]'
    assert run.headers["Content-Type"] == "application/json"


def test_the_answer_to_head_has_no_chunks() -> None:
    run = drive(buffered, "/", method="HEAD")
    assert (run.status, run.chunks, run.headers["content-length"]) == (200, [], "10")


def test_a_client_leaves_right_after_its_chunk() -> None:
    run = drive(plain, "/", disconnect_at=3)
    assert run.chunks == [b"1\n", b"2\n", b"3\n"]
    assert run.journal[-4:] == ["chunk 3", "disconnect", "finally", "returned"]


def test_a_client_can_leave_before_the_first_chunk() -> None:
    run = drive(plain, "/", disconnect_at=0)
    assert run.chunks == []
    assert run.before("disconnect") == ["start 200"]


def test_a_client_can_leave_before_the_head() -> None:
    asked = threading.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        note((await receive())["type"])
        asked.set()
        note((await receive())["type"])
        await PlainTextResponse("too late")(scope, receive, send)

    run = drive(app, "/", leave_after=lambda: asked.wait(WAIT))
    assert run.journal == [
        "http.request",
        "disconnect",
        "http.disconnect",
        "returned",
    ]
    assert (run.status, run.lost) == (0, 2)


def test_a_client_that_was_to_leave_after_the_answer_fails_the_test() -> None:
    over = threading.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        await PlainTextResponse("all of it")(scope, receive, send)
        asyncio.get_running_loop().call_soon(over.set)

    with pytest.raises(ExceptionGroup) as error:
        drive(app, "/", leave_after=lambda: over.wait(WAIT))
    assert "never came to leave" in str(error.value.exceptions[0])


def test_a_client_that_was_to_leave_but_got_everything_fails_the_test() -> None:
    with pytest.raises(AssertionError, match=r"never came to .*'disconnect': 9"):
        drive(plain, "/", disconnect_at=9)


def test_a_stalled_client_stops_the_producer() -> None:
    run = drive(plain, "/", stall_at=3, disconnect_at=3)
    assert run.chunks == [b"1\n", b"2\n"]
    assert run.before("disconnect")[-2:] == ["row", "stall 3"]
    assert run.before("disconnect").count("row") == 3


def test_a_stalled_client_leaves_when_every_buffer_of_the_app_is_full() -> None:
    async def made_ahead() -> AsyncIterator[str]:
        queue = asyncio.Queue[str](maxsize=20)

        async def produce() -> None:
            async for row in rows(1000):
                await queue.put(row)

        producer = asyncio.create_task(produce())
        try:
            while True:
                yield await queue.get()
        finally:
            producer.cancel()

    app = answer(lambda: StreamingResponse(made_ahead()))
    run = drive(app, "/", stall_at=1, disconnect_at=1)
    # One row is at the client's door, one before that of the full queue.
    assert run.before("disconnect").count("row") == 1 + 20 + 1


def test_a_stall_that_nothing_ends_is_an_error_with_the_journal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asgi, "WAIT", 0.01)
    with pytest.raises(AssertionError, match=r"waited 0.01 s for / to return.*stall 2"):
        drive(plain, "/", stall_at=2)


def test_a_disconnect_ends_a_stalled_plain_response_at_its_next_await() -> None:
    run = drive(plain, "/", stall_at=2, disconnect_at=2)
    assert run.journal[-3:] == ["disconnect", "finally", "returned"]


def test_a_cancelled_plain_response_leaves_its_generator_at_the_yield() -> None:
    run = drive(plain, "/", stall_at=2, cancel_at=2)
    assert run.journal[-3:] == ["stall 2", "cancel", "raised CancelledError"]
    assert "finally" not in run.journal


@pytest.mark.parametrize("path", ["/native", "/route", "/sync"])
def test_a_disconnect_leaves_other_generators_at_their_yield(path: str) -> None:
    run = drive(shop, path, disconnect_at=2)
    assert run.journal[-2:] == ["dependency closed", "returned"]
    assert "finally" not in run.journal


def test_a_stalled_native_event_stream_ends_with_an_error() -> None:
    run = drive(shop, "/native", stall_at=2, disconnect_at=2)
    assert isinstance(run.error, ExceptionGroup)
    assert "finally" not in run.journal


def test_sse_starlette_closes_its_generator_when_the_client_leaves() -> None:
    run = drive(closing, "/", stall_at=2, disconnect_at=2)
    assert "finally" in run.before("returned")


def test_sse_starlette_closes_its_generator_when_it_is_cancelled_at_the_yield() -> None:
    run = drive(closing, "/", stall_at=2, cancel_at=2)
    assert "finally" in run.before("raised CancelledError")


def test_a_generator_without_an_await_freezes_the_server() -> None:
    app = answer(lambda: StreamingResponse(rows_without_await()))
    run = drive(app, "/", disconnect_at=1)
    assert isinstance(run.error, Frozen)
    assert run.journal[-2:] == ["frozen", "raised Frozen"]
    assert run.lost == asgi.FROZEN + 1


def test_an_endless_generator_with_an_await_does_not() -> None:
    app = answer(lambda: StreamingResponse(rows(10**9)))
    run = drive(app, "/", disconnect_at=1)
    assert (run.error, run.lost) == (None, 0)


def test_a_generator_route_without_an_await_does_not() -> None:
    app = FastAPI()

    @app.get("/", response_class=StreamingResponse)
    async def route() -> AsyncIterator[str]:
        async for row in rows_without_await():
            yield row

    run = drive(app, "/", disconnect_at=1)
    assert (run.error, run.before("returned")[-1]) == (None, "disconnect")


def test_a_blocking_generator_lets_no_other_request_through() -> None:
    async def blocking() -> AsyncIterator[str]:
        for _ in range(3):
            slow_query()
            yield "x"

    run = drive(answer(lambda: StreamingResponse(blocking())), "/", also="/ping")
    assert "/ping start 200" not in run.before("chunk 3")
    assert run.also is not None
    assert run.also.body == b"pong"


def test_a_generator_that_awaits_lets_the_other_request_through() -> None:
    run = drive(plain, "/", also="/ping")
    assert "/ping returned" in run.before("chunk 2")


def test_a_stalled_client_does_not_hold_up_another() -> None:
    run = drive(plain, "/", also="/ping", stall_at=2, disconnect_at=2)
    assert "/ping returned" in run.before("disconnect")


def test_a_generator_in_a_thread_is_driven_too() -> None:
    served = threading.Event()

    def producer() -> Iterator[str]:
        yield from rows_in_a_thread(2)
        note("waits")
        assert served.wait(asgi.WAIT)
        yield "the other was served\n"

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/ping":
            await PlainTextResponse("pong")(scope, receive, send)
            served.set()
        else:
            await StreamingResponse(producer())(scope, receive, send)

    run = drive(app, "/", also="/ping", also_at=2)
    assert run.before("chunk 2").count("row") == 2
    assert run.chunks[-1] == b"the other was served\n"


def test_an_error_in_mid_stream_is_reported() -> None:
    async def failing() -> AsyncIterator[str]:
        yield "1\n"
        raise ValueError("no more tea")

    run = drive(answer(lambda: StreamingResponse(failing())), "/", disconnect_at=9)
    assert repr(run.error) == "ValueError('no more tea')"
    assert run.journal == ["start 200", "chunk 1", "raised ValueError"]


def test_the_lifespan_runs_around_the_request() -> None:
    lived: list[str] = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, str]]:
        lived.append("up")
        yield {"shop": "open"}
        lived.append("down")

    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def shop(request: Request) -> str:
        lived.append(request.state.shop)
        return "ok"

    drive(app, "/")
    assert lived == ["up", "open", "down"]


def test_a_lifespan_that_fails_to_start_fails_the_test() -> None:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        int("no key")
        yield

    with pytest.raises(AssertionError, match=r"startup failed(.|\n)*no key"):
        drive(FastAPI(lifespan=lifespan), "/")


def test_nothing_is_collected_during_a_run() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        await PlainTextResponse(str(gc.isenabled()))(scope, receive, send)

    assert drive(app, "/").body == b"False"
    assert gc.isenabled()


def test_a_line_that_is_missing_is_an_error_with_the_journal() -> None:
    with pytest.raises(AssertionError, match="'chunk 9' is not in the journal"):
        drive(plain, "/").before("chunk 9")
