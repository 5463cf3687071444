"""docs/recipes/sse_keepalive.md: every claim of the page, proved on the recipe."""

import asyncio
import contextlib
import inspect
import json
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace

import anyio
import fastapi.routing
import fastapi.sse
import pytest
import sse_starlette
from fastapi import FastAPI, Response
from fastapi.testclient import TestClient

from recipes import sse_keepalive
from recipes.sse_keepalive import LAST, Order, slow_client_may_leave, with_pings
from tests.kit import sse
from tests.kit.asgi import drive, note

EVENTS = ("/by-hand", "/sse-starlette", "/native")
ROUTES = (*EVENTS, "/ndjson")
PINGING = ("/by-hand", "/sse-starlette", "/ndjson")
PING = ("ping", "{}")
PLACED = ("order", '{"id":7,"state":"placed"}')
DELIVERED = ("order", '{"id":7,"state":"delivered"}')
client = TestClient(sse_keepalive.app)


def told(path: str, body: bytes) -> list[tuple[str, str]]:
    """Give what a body tells, as pairs of name and data, whatever its format."""
    if path == "/ndjson":
        lines = body.decode().removesuffix("\n").split("\n")
        return [("order", line) if line else PING for line in lines]
    return [(event.event, event.data) for event in sse.parse([body]).events]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the shop be silent for a moment only, whatever the request says."""
    kept = {"wait": asyncio.wait, "ensure_future": asyncio.ensure_future}
    moment = SimpleNamespace(sleep=lambda _: asyncio.sleep(0), **kept)
    monkeypatch.setattr(sse_keepalive, "asyncio", moment)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the feed by one state, then nothing for ever; it notes its end."""

    async def states(_: float) -> AsyncGenerator[Order, None]:
        try:
            yield Order(id=7, state="placed")
            await anyio.sleep_forever()
        finally:
            note("closed")

    monkeypatch.setattr(sse_keepalive, "order_states", states)


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the feed by one that never pauses; it notes its items and its end."""

    async def states(_: float) -> AsyncGenerator[Order, None]:
        try:
            while True:
                note("made")
                yield Order(id=7, state="paid")
                await asyncio.sleep(0)
        finally:
            note("closed")

    monkeypatch.setattr(sse_keepalive, "order_states", states)


# What is sent


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("path", ROUTES)
def test_the_feed_tells_two_states_with_silence_between_them(path: str) -> None:
    found = told(path, client.get(path).content)
    assert [item for item in found if item != PING] == [PLACED, DELIVERED]
    assert (found[0], found[-1]) == (PLACED, DELIVERED)


@pytest.mark.parametrize("path", PINGING)
def test_pings_fill_the_silence(path: str) -> None:
    found = told(path, client.get(f"{path}?quiet=0.55&ping=0.1").content)
    pings = found[1:-1]
    assert 2 <= len(pings) <= 5
    assert set(pings) == {PING}


def test_the_shop_is_silent_for_as_long_as_the_request_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    kept = {"wait": asyncio.wait, "ensure_future": asyncio.ensure_future}
    monkeypatch.setattr(sse_keepalive, "asyncio", SimpleNamespace(sleep=sleep, **kept))
    for path in ROUTES:
        client.get(f"{path}?quiet=99.5")
    client.get("/native")
    assert slept == [99.5] * 4 + [20]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("path", EVENTS)
def test_the_headers_say_what_it_is_and_tell_a_proxy_not_to_hold_it(path: str) -> None:
    headers = drive(sse_keepalive.app, path).headers
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["x-accel-buffering"] == "no"
    assert headers["cache-control"] in ("no-cache", "no-store")


@pytest.mark.usefixtures("quick")
def test_ndjson_says_so_too() -> None:
    headers = drive(sse_keepalive.app, "/ndjson").headers
    assert headers["content-type"] == "application/x-ndjson"
    assert headers["x-accel-buffering"] == "no"
    assert headers["cache-control"] == "no-store"


def test_these_are_the_bytes_of_a_ping() -> None:
    path = "?quiet=0.25&ping=0.1"
    assert drive(sse_keepalive.app, f"/by-hand{path}").chunks[1] == (
        b"event: ping\ndata: {}\n\n"
    )
    assert drive(sse_keepalive.app, f"/ndjson{path}").chunks[1] == b"\n"
    assert drive(sse_keepalive.app, f"/sse-starlette{path}").chunks[1] == (
        b"event: ping\r\ndata: {}\r\n\r\n"
    )


@pytest.mark.usefixtures("quick")
def test_these_are_the_bytes_of_an_order() -> None:
    first = {path: drive(sse_keepalive.app, path).chunks[0] for path in ROUTES}
    data = b'data: {"id":7,"state":"placed"}'
    assert first["/native"] == b"event: order\n" + data + b"\nid: placed\n\n"
    assert first["/by-hand"] == first["/native"]
    assert first["/sse-starlette"] == (
        b"id: placed\r\nevent: order\r\n" + data + b"\r\n\r\n"
    )
    assert first["/ndjson"] == b'{"id":7,"state":"placed"}\n'


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize("path", ROUTES)
def test_the_first_state_is_sent_before_the_second_is_made(
    path: str,
) -> None:
    # The feed never makes a second one: whoever waited for it would wait for ever.
    run = drive(sse_keepalive.app, path, disconnect_at=1)
    assert b"placed" in run.body


# FastAPI's own ping


def test_fastapi_pings_with_a_comment_that_is_no_event(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fastapi.routing, "_PING_INTERVAL", 0.01)
    body = client.get("/native?quiet=0.2").content
    assert b"\n\n: ping\n\n" in body
    assert told("/native", body) == [PLACED, DELIVERED]


def test_its_15_seconds_are_no_setting_and_those_of_sse_starlette_are_one() -> None:
    assert fastapi.sse._PING_INTERVAL == 15
    assert "ping" not in inspect.signature(fastapi.sse.EventSourceResponse).parameters
    assert sse_starlette.EventSourceResponse.DEFAULT_PING_INTERVAL == 15
    assert "ping" in inspect.signature(sse_starlette.EventSourceResponse).parameters


@pytest.mark.usefixtures("quick")
def test_the_others_ping_every_15_seconds_too_unless_the_request_says_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[float] = []
    respond = sse_starlette.EventSourceResponse

    def response(
        content: AsyncIterator[sse_starlette.ServerSentEvent],
        *,
        ping: float,
        ping_message_factory: Callable[[], sse_starlette.ServerSentEvent],
    ) -> sse_starlette.EventSourceResponse:
        asked.append(ping)
        return respond(content, ping=ping, ping_message_factory=ping_message_factory)

    def pings(
        items: AsyncIterator[Order], seconds: float
    ) -> AsyncGenerator[Order | None, None]:
        asked.append(seconds)
        return with_pings(items, seconds)

    monkeypatch.setattr(sse_starlette, "EventSourceResponse", response)
    monkeypatch.setattr(sse_keepalive, "with_pings", pings)
    for path in PINGING:
        client.get(path)
        client.get(f"{path}?ping=3600")
    assert asked == [15, 3600] * 3


def test_by_default_sse_starlette_pings_with_a_comment_and_the_time() -> None:
    app = FastAPI()

    async def silence() -> AsyncIterator[bytes]:
        await asyncio.sleep(0.05)
        yield b""

    @app.get("/")
    async def feed() -> Response:
        return sse_starlette.EventSourceResponse(silence(), ping=0.01)

    body = drive(app, "/").body
    assert body.startswith(b": ping - 20")
    assert sse.parse([body]).events == []


def test_sse_starlette_pings_a_busy_feed_and_by_hand_only_silence_is_filled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def states(_: float) -> AsyncGenerator[Order, None]:
        for _number in range(15):
            await asyncio.sleep(0.01)
            yield Order(id=7, state="paid")

    monkeypatch.setattr(sse_keepalive, "order_states", states)
    assert PING in told("/s", client.get("/sse-starlette?ping=0.1").content)
    assert PING not in told("/b", client.get("/by-hand?ping=0.5").content)


# The wrapper


async def drain(feed: AsyncIterator[int | None], found: list[int | None]) -> None:
    """Read a feed to its end, or to its error."""
    async for item in feed:
        found.append(item)  # noqa: PERF401 - what came before an error counts


def test_each_item_is_given_once_and_none_is_lost_to_a_ping() -> None:
    async def consume() -> list[int | None]:
        silence = asyncio.Event()

        async def items() -> AsyncGenerator[int, None]:
            for number in range(3):
                yield number
                silence.clear()
                await silence.wait()

        found: list[int | None] = []
        async for item in with_pings(items(), 0.001):
            found.append(item)
            # After three pings in a row the source goes on.
            if found[-3:] == [None] * 3:
                silence.set()
        return found

    three = [None] * 3
    assert asyncio.run(consume()) == [0, *three, 1, *three, 2, *three]


def test_the_wait_is_never_longer_than_the_seconds_and_begins_anew_with_each_item(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[float | None] = []

    async def wait(
        tasks: list[asyncio.Task[int]],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - as asyncio has it
    ) -> None:
        asked.append(timeout)
        await asyncio.wait(tasks, timeout=timeout)

    fake = SimpleNamespace(wait=wait, ensure_future=asyncio.ensure_future)
    monkeypatch.setattr(sse_keepalive, "asyncio", fake)

    async def consume() -> list[int | None]:
        return [item async for item in with_pings(three(), 7.5)]

    async def three() -> AsyncGenerator[int, None]:
        for number in range(3):
            yield number

    assert asyncio.run(consume()) == [0, 1, 2]
    # One for each item, one for the end of the source; the last is the clean-up's.
    assert asked == [7.5, 7.5, 7.5, 7.5, None]


def test_an_error_of_the_source_comes_through_after_what_it_gave() -> None:
    async def broken() -> AsyncGenerator[int, None]:
        yield 1
        await asyncio.sleep(0.01)
        raise ValueError("no such order")

    async def consume() -> list[int | None]:
        feed = with_pings(broken(), 0.002)
        found = [await anext(feed)]
        with pytest.raises(ValueError, match="no such order"):
            await drain(feed, found)
        return found

    found = asyncio.run(consume())
    assert found[0] == 1
    assert set(found[1:]) == {None}


def test_an_empty_source_gives_nothing_and_ends() -> None:
    async def empty() -> AsyncGenerator[int, None]:
        for number in range(0):
            yield number

    async def consume() -> list[int | None]:
        return [item async for item in with_pings(empty(), 1)]

    assert asyncio.run(consume()) == []


@pytest.mark.parametrize("pings", [0, 1, 5])
def test_closed_it_ends_the_wait_for_the_next_item_before_it_returns(
    pings: int,
) -> None:
    async def consume() -> list[str]:
        said: list[str] = []

        async def items() -> AsyncGenerator[int, None]:
            try:
                yield 1
                await anyio.sleep_forever()
            finally:
                await asyncio.sleep(0)  # A clean-up may take its time.
                said.append("closed")

        source = items()
        feed = with_pings(source, 0.001)
        for _ in range(pings + 1):
            await anext(feed)
        await feed.aclose()
        said.append("returned")
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await source.aclose()
        return said

    # Without a ping nobody waits for the next item: the source stands at its `yield`.
    ends = ["closed", "returned"] if pings else ["returned", "closed"]
    assert asyncio.run(consume()) == ends


def test_a_wait_that_is_cancelled_is_ended_too_clean_up_included() -> None:
    async def consume() -> list[str]:
        said: list[str] = []

        async def items() -> AsyncGenerator[int, None]:
            try:
                await anyio.sleep_forever()
                yield 1
            finally:
                await asyncio.sleep(0)
                said.append("closed")

        # AnyIO cancels every wait in its scope, also those of the clean-up.
        with anyio.CancelScope() as scope:
            async for _ in with_pings(items(), 0.001):
                scope.cancel()
        said.append("left")
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return said

    assert asyncio.run(consume()) == ["closed", "left"]


def test_a_source_must_not_hold_a_cancel_scope_over_a_yield() -> None:
    async def held_open() -> AsyncGenerator[int, None]:
        with anyio.CancelScope():
            yield 1
            yield 2

    async def consume() -> None:
        async for _ in with_pings(held_open(), 1):
            pass

    with pytest.raises(RuntimeError, match="different task"):
        asyncio.run(consume())


# Who ends what


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("chunk", [1, 2])
def test_a_client_that_leaves_ends_the_feed_at_once(
    path: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fastapi.routing, "_PING_INTERVAL", 0.1)
    run = drive(sse_keepalive.app, f"{path}?ping=0.1", disconnect_at=chunk)
    assert run.before("returned")[-2:] == ["disconnect", "closed"]


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("chunk", [1, 2])
def test_so_does_one_that_had_stopped_reading(
    path: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fastapi.routing, "_PING_INTERVAL", 0.1)
    target = f"{path}?ping=0.1"
    run = drive(sse_keepalive.app, target, stall_at=chunk, disconnect_at=chunk)
    assert run.before("returned")[-2:] == ["disconnect", "closed"]


@pytest.mark.usefixtures("busy")
@pytest.mark.parametrize("path", ROUTES)
def test_so_does_one_that_was_too_slow_for_a_busy_feed(path: str) -> None:
    run = drive(sse_keepalive.app, path, stall_at=3, disconnect_at=3)
    assert run.journal[-2:] == ["closed", "returned"]
    # What is made ahead of a client is bounded: FastAPI makes four.
    made = run.before("stall 3").count("made"), run.before("closed").count("made")
    assert made[0] <= made[1] <= 8


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize("path", ROUTES)
def test_so_does_a_server_that_gives_the_request_up(path: str) -> None:
    run = drive(sse_keepalive.app, f"{path}?ping=0.1", cancel_at=1)
    assert run.before("raised CancelledError")[-1] == "closed"


@pytest.mark.usefixtures("busy")
def test_without_the_dependency_fastapi_raises_because_a_slow_client_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without = {slow_client_may_leave: lambda: None}
    monkeypatch.setattr(sse_keepalive.app, "dependency_overrides", without)
    run = drive(sse_keepalive.app, "/by-hand", stall_at=3, disconnect_at=3)
    assert run.journal[-1] == "raised ExceptionGroup"


def test_the_dependency_drops_that_error_and_no_other() -> None:
    async def leave_with(error: Exception) -> None:
        async with contextlib.asynccontextmanager(slow_client_may_leave)():
            raise error

    left = anyio.BrokenResourceError()
    asyncio.run(leave_with(ExceptionGroup("a slow client left", [left])))
    both = ExceptionGroup("and the feed failed", [left, ValueError("no such order")])
    with pytest.raises(ExceptionGroup) as failed:
        asyncio.run(leave_with(both))
    assert [str(error) for error in failed.value.exceptions] == ["no such order"]


@pytest.mark.parametrize("path", ROUTES)
def test_an_error_of_the_feed_leaves_every_route(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_: float) -> AsyncGenerator[Order, None]:
        yield Order(id=7, state="placed")
        raise ValueError("no such order")

    monkeypatch.setattr(sse_keepalive, "order_states", broken)
    error = drive(sse_keepalive.app, path).error
    while isinstance(error, ExceptionGroup):
        (error,) = error.exceptions
    assert isinstance(error, ValueError)


# What a client may ask


@pytest.mark.parametrize("name", ["ping", "quiet"])
@pytest.mark.parametrize(
    "bad", ["", "0", "0.09", "3601", "-1", "nan", "inf", "1e999", "abc", "1%00", "%FF"]
)
def test_seconds_that_are_none_are_refused_before_the_stream_starts(
    name: str, bad: str
) -> None:
    """Attack: Seconds that are negative, infinite, no number: 422."""
    for path in PINGING:
        answer = client.get(f"{path}?{name}={bad}")
        assert answer.status_code == 422
        (fault,) = answer.json()["detail"]
        assert fault["loc"] == ["query", name]


@pytest.mark.parametrize("asked", ["0.1", "3600", "%D9%A3", "5_00"])
def test_what_is_taken_for_seconds_is_a_number_within_the_limits(
    asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[float] = []

    async def states(quiet: float) -> AsyncGenerator[Order, None]:
        taken.append(quiet)
        yield Order(id=7, state=LAST)

    monkeypatch.setattr(sse_keepalive, "order_states", states)
    answer = client.get(f"/by-hand?quiet={asked}")
    assert answer.status_code in (200, 422)
    assert all(0.1 <= quiet <= 3600 and math.isfinite(quiet) for quiet in taken)
    assert asked not in ("0.1", "3600") or taken == [float(asked)]


@pytest.mark.parametrize("path", ROUTES)
def test_a_browser_that_has_seen_the_end_is_told_to_stay_away(path: str) -> None:
    response = client.get(path, headers={"Last-Event-ID": LAST})
    assert (response.status_code, response.content) == (204, b"")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("path", EVENTS)
@pytest.mark.parametrize(
    "last",
    [
        b"",
        b"placed",
        b"-1",
        b"5_00",
        b"\xff\xfe",
        b"\xd9\xa3",
        b"' OR 1=1--",
        b"9" * 8192,
    ],
)
def test_any_other_id_gets_the_feed_from_its_first_event(
    path: str, last: bytes
) -> None:
    response = client.get(path, headers={b"last-event-id": last})
    assert response.status_code == 200
    events = sse.parse([response.content]).events
    orders = [json.loads(event.data)["state"] for event in events if event.data != "{}"]
    assert orders == ["placed", LAST]


@pytest.mark.usefixtures("quick")
def test_the_id_of_the_last_event_is_the_one_that_is_told_to_stay_away() -> None:
    for path in EVENTS:
        assert sse.parse([client.get(path).content]).last_event_id == LAST


@pytest.fixture(scope="module")
def html() -> str:
    """Give the recipe's own page."""
    return client.get("/").text


def test_the_recipe_serves_its_page_which_loads_nothing_from_another_host(
    html: str,
) -> None:
    assert client.get("/").headers["content-type"] == "text/html; charset=utf-8"
    assert "new EventSource" in html
    assert "http" not in html
    assert html == Path("recipes/sse_keepalive.html").read_text("utf-8")
