"""docs/recipes/plain_text.md: every claim the page makes, proved against the recipe."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace

import anyio.to_thread
import httpx2
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient

from recipes import plain_text
from tests.kit.asgi import drive, note
from tests.kit.servers import WAIT

ROUTES = ("/async/1", "/sync/1", "/route/1", "/bytes/1")
SLIP = [
    b"Order 1 for Ada\n",
    b"packed: green tea\n",
    b"packed: tea pot\n",
    b"packed: honey\n",
    b"Ready to ship\n",
]


def read_slip(client: httpx2.Client, path: str) -> Iterator[str]:
    """Give each line as it arrives, whatever chunks it came in."""
    with client.stream("GET", path) as response:
        response.raise_for_status()
        yield from response.iter_lines()


@pytest.fixture
def noted_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every item be packed at once, and note it."""

    async def pause(_: float) -> None:
        note("pause")
        await asyncio.sleep(0)

    monkeypatch.setattr(plain_text, "asyncio", SimpleNamespace(sleep=pause))
    blocking = SimpleNamespace(sleep=lambda _: note("pause"))
    monkeypatch.setattr(plain_text, "time", blocking)


@pytest.mark.usefixtures("noted_pauses")
@pytest.mark.parametrize("path", ROUTES)
def test_every_yield_is_a_chunk_and_goes_out_before_the_next_is_made(path: str) -> None:
    run = drive(plain_text.app, path)
    assert run.chunks == SLIP
    assert run.journal == [
        "start 200",
        "chunk 1",
        *("pause", "chunk 2", "pause", "chunk 3", "pause", "chunk 4"),
        *("chunk 5", "end", "returned"),
    ]
    assert "content-length" not in run.headers


@pytest.mark.parametrize("path", ROUTES)
def test_the_first_line_is_with_the_client_while_the_second_is_being_made(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_read = threading.Event()

    async def pause(_: float) -> None:
        await anyio.to_thread.run_sync(has_read.wait, 5)

    blocking = SimpleNamespace(sleep=lambda _: has_read.wait(WAIT))
    monkeypatch.setattr(plain_text, "asyncio", SimpleNamespace(sleep=pause))
    monkeypatch.setattr(plain_text, "time", blocking)
    with TestClient(plain_text.app) as client:
        lines = read_slip(client, path)
        assert next(lines) == "Order 1 for Ada"
        assert not has_read.is_set()
        has_read.set()
        assert list(lines)[-1] == "Ready to ship"


def test_an_item_takes_a_quarter_of_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    async def pause(seconds: float) -> None:
        note(f"{seconds} s")

    blocking = SimpleNamespace(sleep=lambda seconds: note(f"{seconds} s"))
    monkeypatch.setattr(plain_text, "asyncio", SimpleNamespace(sleep=pause))
    monkeypatch.setattr(plain_text, "time", blocking)
    for path in ROUTES:
        assert drive(plain_text.app, path).journal.count("0.25 s") == 3


@pytest.fixture
def noted_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the packing of an item take for ever, and note when a generator ends."""
    original = plain_text.packing_slip_async

    async def pause(_: float) -> None:
        note("pause")
        await asyncio.Event().wait()

    async def noted(order: plain_text.Order) -> AsyncIterator[str]:
        try:
            async for line in original(order):
                yield line
        finally:
            note("finally")

    monkeypatch.setattr(plain_text, "asyncio", SimpleNamespace(sleep=pause))
    monkeypatch.setattr(plain_text, "packing_slip_async", noted)


@pytest.mark.usefixtures("noted_ends")
def test_an_async_generator_is_cancelled_at_its_await_when_the_client_leaves() -> None:
    run = drive(plain_text.app, "/async/1", disconnect_at=1)
    assert run.journal[2:] == ["disconnect", "pause", "finally", "returned"]


@pytest.mark.usefixtures("noted_ends")
def test_so_is_one_whose_client_was_too_slow_and_left() -> None:
    run = drive(plain_text.app, "/async/1", stall_at=1, disconnect_at=1)
    assert run.journal[1:] == ["stall 1", "disconnect", "pause", "finally", "returned"]


@pytest.mark.usefixtures("noted_ends")
@pytest.mark.parametrize("stall_at", [None, 1])
def test_a_generator_route_may_stop_outside_your_code_and_then_nothing_closes_it(
    stall_at: int | None,
) -> None:
    run = drive(plain_text.app, "/route/1", stall_at=stall_at, disconnect_at=1)
    assert run.journal[-2:] == ["disconnect", "returned"]


@pytest.mark.usefixtures("noted_pauses")
def test_no_further_step_of_a_plain_generator_begins_when_the_client_has_left() -> None:
    run = drive(plain_text.app, "/sync/1", disconnect_at=2)
    assert run.journal.count("pause") == 1


def test_a_plain_generator_runs_in_a_thread_and_an_async_one_on_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def pause(_: float) -> None:
        note(f"async on {threading.current_thread() is main}")

    main = threading.current_thread()
    blocking = SimpleNamespace(
        sleep=lambda _: note(f"sync on {threading.current_thread() is main}")
    )
    monkeypatch.setattr(plain_text, "asyncio", SimpleNamespace(sleep=pause))
    monkeypatch.setattr(plain_text, "time", blocking)
    assert "sync on False" in drive(plain_text.app, "/sync/1").journal
    assert "async on True" in drive(plain_text.app, "/async/1").journal


def test_there_are_forty_threads_for_plain_generators() -> None:
    async def total() -> float:
        return anyio.to_thread.current_default_thread_limiter().total_tokens

    assert asyncio.run(total()) == 40


@pytest.mark.usefixtures("noted_pauses")
@pytest.mark.parametrize("path", ["/async/2", "/sync/2", "/route/2"])
def test_text_is_encoded_in_utf_8_and_starlette_names_the_charset(path: str) -> None:
    response = TestClient(plain_text.app).get(path)
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert "crème brûlée".encode() in response.content


@pytest.mark.usefixtures("noted_pauses")
def test_bytes_go_out_untouched_under_the_charset_that_the_route_names() -> None:
    response = TestClient(plain_text.app).get("/bytes/2")
    assert response.headers["content-type"] == "text/plain; charset=iso-8859-1"
    assert "crème brûlée".encode("iso-8859-1") in response.content
    assert "jalapeño" in response.text


@pytest.mark.parametrize("path", ["/async/7", "/sync/7", "/route/7", "/bytes/7"])
def test_an_unknown_order_is_refused_before_the_stream_starts(path: str) -> None:
    response = TestClient(plain_text.app).get(path)
    assert response.status_code == 404
    assert response.json() == {"detail": "There is no order 7; there are 1, 2."}


def test_an_order_that_is_no_number_is_refused_with_the_reason() -> None:
    response = TestClient(plain_text.app).get("/async/first")
    assert response.status_code == 422
    assert "valid integer" in response.text


def test_an_error_after_the_first_byte_breaks_the_answer_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def pause(_: float) -> None:
        raise OSError("the shelf has collapsed")

    monkeypatch.setattr(plain_text, "asyncio", SimpleNamespace(sleep=pause))
    run = drive(plain_text.app, "/async/1")
    assert run.status == 200
    assert run.journal == ["start 200", "chunk 1", "raised OSError"]


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_only_the_plain_generator_is_safe_without_an_await(kind: str) -> None:
    def plain() -> Iterator[str]:
        while True:
            yield "ticket\n"

    async def never_awaits() -> AsyncIterator[str]:
        while True:
            yield "ticket\n"

    app = FastAPI()

    @app.get("/")
    def tickets() -> StreamingResponse:
        return StreamingResponse(plain() if kind == "plain" else never_awaits())

    run = drive(app, "/", disconnect_at=3)
    assert ("frozen" in run.journal) == (kind == "async")


def test_an_async_stream_needs_none_of_the_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def no_thread(*_: object) -> None:
        raise AssertionError("went to a thread")

    monkeypatch.setattr(anyio.to_thread, "run_sync", no_thread)
    monkeypatch.setattr(plain_text, "PAUSE", 0)
    for path in ("/async/1", "/route/1"):
        assert drive(plain_text.app, path).chunks == SLIP
