"""docs/recipes/sse_disconnect.md: its claims about who notices what, and when."""

import asyncio
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.sse import EventSourceResponse
from fastapi.testclient import TestClient
from sse_starlette import EventSourceResponse as OtherEventSourceResponse
from starlette.middleware.base import RequestResponseEndpoint
from starlette.types import Message, Receive, Scope, Send

from cookbook.catalog import ROOT
from recipes import sse_disconnect
from recipes.sse_disconnect import app, take_a_place, visits
from tests.kit import asgi, sse
from tests.kit.asgi import Run, drive, note

STREAMS = ("/native", "/by-hand", "/sse-starlette")
ALL = (*STREAMS, "/report")
PAGE = (ROOT / "docs/recipes/sse_disconnect.md").read_text("utf-8")


@pytest.fixture(autouse=True)
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test a book of its own, and see that no place stays taken."""
    monkeypatch.setattr(sse_disconnect, "BOOK", tmp_path / "book.txt")
    return tmp_path / "book.txt"


@pytest.fixture(autouse=True)
def places() -> Iterator[None]:
    """See that no test leaves a place taken."""
    assert not visits
    yield
    assert not visits


@pytest.fixture(autouse=True)
def paused(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Make a pause last until others have run, and keep how long it should be."""
    seconds: list[float] = []

    async def pause(length: float) -> None:
        seconds.append(length)
        note("pause")
        await asyncio.sleep(0.02)

    fake = SimpleNamespace(sleep=pause, CancelledError=asyncio.CancelledError)
    monkeypatch.setattr(sse_disconnect, "asyncio", fake)
    return seconds


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make orders faster than a client takes them."""

    async def pause(_: float) -> None:
        await asyncio.sleep(0)

    fake = SimpleNamespace(sleep=pause, CancelledError=asyncio.CancelledError)
    monkeypatch.setattr(sse_disconnect, "asyncio", fake)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a stream last for five readings of the clock, which is four orders."""
    clock = iter(range(100))
    fake = SimpleNamespace(monotonic=lambda: next(clock))
    monkeypatch.setattr(sse_disconnect, "time", fake)
    monkeypatch.setattr(sse_disconnect, "LIFETIME", 5)


def number_of(event: sse.Event) -> int:
    """Read an order's number."""
    order: dict[str, Any] = json.loads(event.data)
    assert order["state"] == "placed"
    number: int = order["id"]
    return number


# What is sent ------------------------------------------------------------------------


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("path", STREAMS)
def test_all_three_send_the_same_orders(path: str) -> None:
    parsed = sse.parse(drive(app, path).chunks)
    assert [number_of(event) for event in parsed.events] == [1, 2, 3, 4]
    assert {event.event for event in parsed.events} == {"message"}


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("path", STREAMS)
def test_an_order_is_a_chunk_and_goes_out_before_the_next_is_made(path: str) -> None:
    run = drive(app, path)
    assert len(run.chunks) == 4
    for number in (1, 2, 3, 4):
        assert run.before(f"chunk {number}").count("pause") <= number


def test_there_is_an_order_every_half_second(paused: list[float]) -> None:
    drive(app, "/by-hand", disconnect_at=3)
    assert set(paused) == {0.5}


@pytest.mark.parametrize("path", STREAMS)
def test_the_headers_say_what_it_is_and_tell_a_proxy_not_to_hold_it(path: str) -> None:
    headers = drive(app, path, disconnect_at=1).headers
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["x-accel-buffering"] == "no"
    assert headers["cache-control"] in ("no-cache", "no-store")


@pytest.mark.parametrize(
    ("path", "end"),
    [("/native", "\n\n"), ("/by-hand", "\n\n"), ("/sse-starlette", "\r\n\r\n")],
)
def test_these_are_the_bytes_of_an_event(path: str, end: str) -> None:
    first = drive(app, path, disconnect_at=1).chunks[0]
    assert first.decode() == f'data: {{"id": 1, "state": "placed"}}{end}'


def test_the_report_counts_seven_days(paused: list[float]) -> None:
    answer = TestClient(app).get("/report")
    assert answer.json() == {"days": 7, "orders": 700}
    assert paused == [0.5] * 7


@pytest.mark.parametrize(
    ("constant", "value"),
    [
        ("PLACES", 100),
        ("CLEAN_UP", 5),
        ("STALL", 30),
        ("LIFETIME", 600),
        ("DAYS", 7),
    ],
)
def test_the_page_names_these_limits(constant: str, value: float) -> None:
    assert getattr(sse_disconnect, constant) == value
    assert f"`{constant}`" in PAGE


# Who notices what, and when ----------------------------------------------------------


def line_of(book: Path) -> str:
    """Read the only line of the book."""
    (line,) = book.read_text("utf-8").splitlines()
    return line


def signs(book: Path) -> str:
    """Say what told the recipe that the client had left, and begin a new book."""
    found = line_of(book).partition("; ")[2]
    book.unlink()
    return found


def in_vain(run: Run, line: str) -> int:
    """Count what was made for nobody."""
    return int(line.split()[1]) - len(run.chunks)


@pytest.mark.parametrize("path", STREAMS)
def test_the_table_of_the_page_says_what_happens(
    path: str, book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive(app, path, disconnect_at=2)
    reads = signs(book)

    async def at_once(_: float) -> None:
        await asyncio.sleep(0)

    fake = SimpleNamespace(sleep=at_once, CancelledError=asyncio.CancelledError)
    monkeypatch.setattr(sse_disconnect, "asyncio", fake)
    run = drive(app, path, stall_at=3, disconnect_at=3)
    lost = in_vain(run, line_of(book))
    stopped = signs(book)
    assert f"| `{path}` | {reads} | {stopped} | {lost} |" in PAGE


def test_the_row_of_the_report_says_what_happens(book: Path) -> None:
    run = drive(app, "/report", leave_after=until("pause", 3))
    # Nothing is known before the next question.
    assert run.journal[-2:] == ["disconnect", "returned"]
    assert run.lost > 0
    assert line_of(book) == "/report: 3 given; told by is_disconnected"
    assert "| `/report` | told by is_disconnected, before the next day |" in PAGE


def test_the_report_that_nobody_reads_has_a_status_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def noted(status: int, detail: str) -> HTTPException:
        note(f"{status} {detail}")
        return HTTPException(status, detail)

    monkeypatch.setattr(sse_disconnect, "HTTPException", noted)
    run = drive(app, "/report", leave_after=until("pause", 1))
    assert run.journal[-2:] == ["499 The client has left.", "returned"]


def test_a_feed_passes_its_cancellation_on() -> None:
    async def swallowed() -> bool:
        feed = sse_disconnect.new_orders(sse_disconnect.Visit("/native"))
        await anext(feed)
        waiting = asyncio.ensure_future(anext(feed, None))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        return not waiting.cancelled()

    assert not asyncio.run(swallowed())


def until(line: str, count: int) -> Callable[[], None]:
    """Wait in a thread until a line has been noted so often."""

    def wait() -> None:
        deadline = time.monotonic() + 5
        while asgi._journal.count(line) < count:
            assert time.monotonic() < deadline
            time.sleep(0.001)

    return wait


@pytest.mark.parametrize("path", STREAMS)
@pytest.mark.parametrize("stalled", [False, True])
@pytest.mark.parametrize("number", [1, 2, 5])
def test_whoever_leaves_the_feed_is_closed_before_the_request_is_over(
    path: str, stalled: bool, number: int, book: Path
) -> None:
    at: Any = {"stall_at": number} if stalled else {}
    run = drive(app, path, disconnect_at=number, **at)
    assert run.journal[-1] == "returned"
    assert run.error is None
    assert line_of(book).startswith(f"{path}: ")
    assert not visits


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("path", ALL)
def test_a_complete_answer_shows_no_sign_but_the_handler_is_called_all_the_same(
    path: str, book: Path
) -> None:
    run = drive(app, path)
    assert run.journal[-2:] == ["end", "returned"]
    given = 7 if path == "/report" else 4
    sign = "handler called" if path == "/sse-starlette" else "no sign that it left"
    assert line_of(book) == f"{path}: {given} given; {sign}"


@pytest.mark.parametrize("path", STREAMS)
def test_streams_are_cancelled_behind_a_middleware_too(path: str, book: Path) -> None:
    behind = FastAPI()
    behind.mount("/", app)

    @behind.middleware("http")
    async def pass_on(request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)

    run = drive(behind, path, disconnect_at=2)
    assert run.journal[-1] == "returned"
    assert line_of(book).endswith("cancelled at an await")


def test_a_post_whose_body_was_read_can_be_asked_as_well() -> None:
    asked = FastAPI()

    @asked.post("/report")
    async def report(request: Request, body: dict[str, int]) -> int:
        while not await request.is_disconnected():
            note("waits")
            await asyncio.sleep(0)
        note(f"left after {body}")
        return 0

    run = drive(
        asked,
        "/report",
        method="POST",
        headers={"content-type": "application/json"},
        body=b'{"days": 3}',
        leave_after=until("waits", 3),
    )
    assert run.journal[-2:] == ["left after {'days': 3}", "returned"]


def test_the_handler_is_called_first_and_the_feed_goes_on_until_it_returns() -> None:
    other = FastAPI()

    async def on_leaving(message: Message) -> None:
        note(f"told {message['type']}")
        for _ in range(10):
            await asyncio.sleep(0)
        note("handled")

    async def feed() -> AsyncIterator[str]:
        try:
            while True:
                yield "order"
                note("made")
                await asyncio.sleep(0)
        finally:
            note("finally")

    @other.get("/events")
    async def events() -> OtherEventSourceResponse:
        return OtherEventSourceResponse(
            feed(), client_close_handler_callable=on_leaving
        )

    after = drive(other, "/events", disconnect_at=1).journal
    told, handled = after.index("told http.disconnect"), after.index("handled")
    assert "made" in after[told:handled]
    assert after[handled + 1 :] == ["finally", "returned"]


def test_the_handler_hears_nothing_when_the_server_gives_up(book: Path) -> None:
    drive(app, "/sse-starlette", cancel_at=2)
    assert "handler" not in line_of(book)


# What is given back ------------------------------------------------------------------


@pytest.mark.parametrize("path", ALL)
def test_the_book_is_written_even_if_the_server_gives_the_request_up(
    path: str, book: Path
) -> None:
    run = cancelled_report() if path == "/report" else drive(app, path, cancel_at=1)
    assert isinstance(run.error, asyncio.CancelledError)
    assert line_of(book).startswith(f"{path}: ")


def cancelled_report() -> Run:
    """Cancel a report, whose head comes too late to be cancelled at it."""

    async def cancelled(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        task = asyncio.ensure_future(app(scope, receive, send))
        await asyncio.sleep(0.01)
        task.cancel()
        await task

    return drive(cancelled, "/report")


def test_the_book_gets_five_seconds_and_no_more(
    monkeypatch: pytest.MonkeyPatch, book: Path
) -> None:
    async def hang(*_: object, **__: object) -> None:
        note("hangs")
        await anyio.sleep_forever()

    monkeypatch.setattr(sse_disconnect, "CLEAN_UP", 0.05)
    monkeypatch.setattr(anyio, "open_file", hang)
    run = drive(app, "/native", disconnect_at=1)
    assert run.journal[-2:] == ["hangs", "returned"]
    assert not book.exists()


def test_the_place_is_free_before_the_book_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def look(_: object) -> None:
        note(f"{len(visits)} open")

    monkeypatch.setattr(sse_disconnect, "write_down", look)
    assert drive(app, "/native", disconnect_at=1).journal[-2:] == ["0 open", "returned"]


def test_the_console_shows_each_line_and_how_many_are_open(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "uvicorn.error"):
        drive(app, "/by-hand", disconnect_at=2)
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("uvicorn.error", "INFO")
    assert record.message == "/by-hand: 2 given; cancelled at an await; 0 still open"


def test_a_line_is_added_to_the_book_for_each_visit(book: Path) -> None:
    book.write_text("before: ä\n", "utf-8")
    drive(app, "/native", disconnect_at=1)
    drive(app, "/report")
    lines = book.read_text("utf-8").splitlines()
    assert [line.split(":")[0] for line in lines] == ["before", "/native", "/report"]


@pytest.mark.parametrize("path", ALL)
def test_the_hundred_and_first_is_told_to_come_back(
    path: str, monkeypatch: pytest.MonkeyPatch, book: Path
) -> None:
    """Attack: All places are taken: 503 with Retry-After before the stream."""
    monkeypatch.setattr(sse_disconnect, "PLACES", 1)
    run = drive(app, "/native", also=path, also_at=1, disconnect_at=2)
    assert run.also is not None
    assert run.also.status == 503
    assert json.loads(run.also.body) == {"detail": "All places are taken."}
    assert run.also.headers["retry-after"] == "5"
    # It had no place, so it has none to give back.
    assert line_of(book).startswith("/native")
    assert drive(app, "/native", disconnect_at=1).status == 200


def test_each_client_holds_a_place_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse_disconnect, "PLACES", 2)
    monkeypatch.setattr(sse_disconnect, "DAYS", 1)
    run = drive(app, "/native", also="/report", also_at=1, disconnect_at=5)
    assert run.also is not None
    assert run.also.status == 200


def test_fastapis_error_at_a_slow_clients_leaving_is_dropped_and_no_other() -> None:
    def request() -> Request:
        return Request({"type": "http", "path": "/native", "headers": []})

    async def leave_with(error: Exception) -> None:
        dependency = take_a_place(request())
        await anext(dependency)
        await dependency.athrow(error)  # type: ignore[attr-defined]

    left = anyio.BrokenResourceError()
    with pytest.raises(StopAsyncIteration):
        asyncio.run(leave_with(ExceptionGroup("left", [left])))
    with pytest.raises(ExceptionGroup) as failed:
        asyncio.run(leave_with(ExceptionGroup("both", [left, ValueError("ours")])))
    assert [str(error) for error in failed.value.exceptions] == ["ours"]


@pytest.mark.usefixtures("fast")
def test_without_that_fastapi_raises_when_a_slow_client_leaves() -> None:
    bare = FastAPI()

    @bare.get("/native", response_class=EventSourceResponse)
    async def native() -> AsyncIterator[str]:
        while True:
            yield "order"

    assert drive(bare, "/native", stall_at=3, disconnect_at=3).error is not None
    assert drive(app, "/native", stall_at=3, disconnect_at=3).error is None


@pytest.mark.parametrize("path", STREAMS)
def test_a_dependency_sees_no_exception_unless_the_request_is_given_up(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def watch() -> AsyncIterator[sse_disconnect.Visit]:
        try:
            yield sse_disconnect.Visit(path)
        except asyncio.CancelledError:
            note("sees CancelledError")
            raise
        note("sees nothing")

    monkeypatch.setattr(app, "dependency_overrides", {take_a_place: watch})
    monkeypatch.setattr(sse_disconnect, "STALL", 0.5)
    left = drive(app, path, disconnect_at=2).journal
    assert left[-2:] == ["sees nothing", "returned"]
    stalled = drive(app, path, stall_at=2).journal
    assert stalled[-2:] == ["sees CancelledError", "returned"]
    cancelled = drive(app, path, cancel_at=2).journal
    assert cancelled[-2:] == ["sees CancelledError", "raised CancelledError"]


# What bounds a stream ----------------------------------------------------------------


@pytest.mark.parametrize("path", STREAMS)
def test_a_client_that_takes_nothing_is_given_up(
    path: str, monkeypatch: pytest.MonkeyPatch, book: Path
) -> None:
    """Attack: A client never reads: it is given up, and its place is free."""
    monkeypatch.setattr(sse_disconnect, "STALL", 0.5)
    run = drive(app, path, stall_at=3)
    assert run.journal[-1] == "returned"
    assert "disconnect" not in run.journal
    assert "end" not in run.journal  # The client learns that it was cut.
    assert len(run.chunks) == 2
    assert re.search("cancelled at an await|closed at a yield", line_of(book))


@pytest.mark.usefixtures("short")
def test_each_event_has_that_time_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[tuple[float, bool]] = []
    limited = anyio.move_on_after

    def noted(seconds: float, *, shield: bool = False) -> anyio.CancelScope:
        limits.append((seconds, shield))
        return limited(seconds, shield=shield)

    monkeypatch.setattr(anyio, "move_on_after", noted)
    drive(app, "/by-hand")
    # The start of the app, then the head, four orders and the end; then the book.
    assert limits[:-1] == [(30.0, False)] * 7 + [(5.0, True)]


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("path", STREAMS)
def test_a_client_that_never_leaves_is_bounded_by_the_lifetime(path: str) -> None:
    # To the server, a client that vanished looks like one that takes everything.
    run = drive(app, path)
    assert run.journal[-2:] == ["end", "returned"]
    assert run.lost == 0


def test_the_lifetime_begins_with_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([1000.0, 1000.0, 1599.9, 1600.0])
    fake = SimpleNamespace(monotonic=lambda: next(clock))
    monkeypatch.setattr(sse_disconnect, "time", fake)
    assert len(drive(app, "/by-hand").chunks) == 2


# Hostile clients ---------------------------------------------------------------------


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("path", ALL)
@pytest.mark.parametrize(
    "value",
    [b"\xff\xfe", b"-1", b"5_00", b"'; DROP TABLE orders", b"x" * 8192, b"\xd9\xa3"],
)
def test_a_strange_last_event_id_changes_nothing(path: str, value: bytes) -> None:
    """Attack: A Last-Event-ID of any bytes: no error."""
    headers = {"last-event-id": value.decode("latin-1")}
    assert drive(app, path, headers=headers).status == 200


@pytest.mark.parametrize("path", ALL)
def test_other_methods_are_refused_and_take_no_place(path: str, book: Path) -> None:
    client = TestClient(app)
    for method in ("HEAD", "POST", "DELETE"):
        assert client.request(method, path, content=b"x" * 100).status_code == 405
    assert not book.exists()


def test_a_line_end_in_the_path_does_not_get_into_the_book(book: Path) -> None:
    """Attack: A path with a line end: it writes no line of its own."""
    # Starlette's route lets one through at the end.
    assert drive(app, "/native%0A", disconnect_at=1).status == 200
    assert line_of(book) == "/native: 1 given; cancelled at an await"


@pytest.mark.parametrize("path", ["/native/", "/nativ%65/x", "/%00", "/native%0Ax"])
def test_other_paths_are_not_found(path: str, book: Path) -> None:
    answer = TestClient(app).get(path, follow_redirects=False)
    assert answer.status_code in (307, 404)
    assert not book.exists()


def test_the_dependency_alone_is_enough_in_an_app_of_your_own(book: Path) -> None:
    own = FastAPI(dependencies=[Depends(take_a_place)])

    @own.get("/mine", response_class=EventSourceResponse)
    async def mine() -> AsyncIterator[str]:
        while True:
            yield "order"
            await asyncio.sleep(0)

    drive(own, "/mine", stall_at=3, disconnect_at=3)
    assert line_of(book).startswith("/mine: ")
