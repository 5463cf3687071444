"""docs/recipes/sse_resumable.md: what the page claims, proved against the recipe."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable

import fastapi.routing
import fastapi.sse
import httpx2
import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from recipes import sse_resumable
from recipes.sse_resumable import END, RESET, RETRY, Event, Log, Order, read
from tests.kit import sse
from tests.kit.asgi import drive, note
from tests.kit.servers import WAIT

TURNS = 50  # of the event loop, in which everything comes to rest that needs no clock
HOSTILE = [
    b"abc",
    b"-1",
    b"0",
    b"5_00",
    b"\xd9\xa3",  # a digit of another alphabet
    b"caf\xe9",
    b"\xff\xfe",
    b"'; DROP TABLE orders; --",
    b"1-1",
    b"9" * 8000,
    b"*",
    b"end",
]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    """Give the log that the application will open; five events are kept."""
    monkeypatch.setattr(sse_resumable, "KEEP", 5)
    made = Log()
    monkeypatch.setattr(sse_resumable, "Log", lambda: made)
    monkeypatch.setattr(sse_resumable, "PAUSE", 0.001)
    monkeypatch.delenv("STREAM_STORE", raising=False)
    return made


def add(log: Log, count: int, *, end: bool = False) -> list[Event]:
    """Add events, and the end if it is wanted; give all that are kept."""
    for _ in range(count):
        asyncio.run(log.append("order", f"{log.total}"))
    if end:
        asyncio.run(log.append(END, "{}"))
    return list(log.events)


def got(body: bytes) -> list[tuple[str, str, str]]:
    """Read the events of an answer, as a browser does."""
    return [(event.id, event.event, event.data) for event in sse.parse([body]).events]


def asked(
    headers: dict[bytes, bytes] | None = None, path: str = "/events"
) -> httpx2.Response:
    """Ask the application for the feed, which has to end."""
    with TestClient(sse_resumable.app) as client:
        return client.get(path, headers=headers)


# The log


def test_an_id_is_the_name_of_the_log_and_a_number(log: Log) -> None:
    ids = [event.id for event in add(log, 3)]
    assert ids == [f"{log.start}-{number}" for number in range(3)]
    assert len(log.start) == 16


def test_no_two_logs_have_the_same_name() -> None:
    assert len({Log().start for _ in range(100)}) == 100


def test_the_oldest_event_is_dropped_when_there_are_too_many(log: Log) -> None:
    assert log.first == 0
    kept = add(log, 7)
    assert [event.data for event in kept] == ["2", "3", "4", "5", "6"]
    assert (log.first, log.total) == (2, 7)


def test_a_thousand_events_are_kept() -> None:
    assert (Log().events.maxlen, sse_resumable.KEEP) == (1000, 1000)


def test_after_the_end_nothing_is_added(log: Log) -> None:
    assert log.end == ""
    kept = add(log, 2, end=True)
    assert log.end == kept[-1].id == f"{log.start}-2"
    assert add(log, 2, end=True) == kept


def find(log: Log, last_id: str) -> int:
    return asyncio.run(log.find(last_id))


def test_the_place_after_an_id_is_found(log: Log) -> None:
    kept = add(log, 7)
    assert [find(log, event.id) for event in kept] == [3, 4, 5, 6, 7]
    assert find(log, "") == 2


def test_what_is_not_kept_is_not_found(log: Log) -> None:
    evicted = add(log, 1)[0].id
    newest = add(log, 6)[-1].id
    other = Log()
    add(other, 3)
    for unknown in (evicted, f"{log.start}-99", newest + "0", newest.upper() + " "):
        assert find(log, unknown) == -1
    assert find(log, other.events[2].id) == -1


@given(st.text())
def test_any_text_may_be_an_id(text: str) -> None:
    log = Log()
    add(log, 3)
    known = {"": 0, **{event.id: n + 1 for n, event in enumerate(log.events)}}
    assert find(log, text) == known.get(text, -1)


# Reading


async def take(events: AsyncIterator[Event], count: int) -> list[Event]:
    """Take so many events; each is there, or comes."""
    async with asyncio.timeout(WAIT):
        return [await anext(events) for _ in range(count)]


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(WAIT):
            await test()

    asyncio.run(limited())


def test_without_an_id_the_feed_begins_with_the_oldest_kept(log: Log) -> None:
    kept = add(log, 7)

    async def test() -> None:
        assert await take(read(log, ""), 5) == kept

    run(test)


def test_with_an_id_it_goes_on_behind_it_and_then_live(log: Log) -> None:
    kept = add(log, 3)

    async def test() -> None:
        events = read(log, kept[0].id)
        assert await take(events, 2) == kept[1:]
        following = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        assert not following.done()
        await log.append("order", "live")
        assert (await following).data == "live"

    run(test)


@pytest.mark.parametrize("last_id", ["abc", "-1", "0" * 8000, "\xe9"])
def test_a_foreign_id_gets_one_reset_and_then_the_oldest_kept(
    log: Log, last_id: str
) -> None:
    kept = add(log, 7)

    async def test() -> None:
        events = read(log, last_id)
        assert await take(events, 6) == [RESET, *kept]
        await log.append("order", "live")
        assert (await take(events, 1))[0].data == "live"

    run(test)


def test_an_id_from_before_a_restart_is_foreign(log: Log) -> None:
    before = Log()
    add(before, 3)
    kept = add(log, 3)

    async def test() -> None:
        assert await take(read(log, before.events[1].id), 4) == [RESET, *kept]

    run(test)


def test_a_reader_that_falls_behind_the_oldest_is_told(log: Log) -> None:
    first = add(log, 2)[0]

    async def test() -> None:
        events = read(log, "")
        assert await take(events, 1) == [first]
        for number in range(6):
            await log.append("order", f"later {number}")
        assert await take(events, 6) == [RESET, *log.events]

    run(test)


def test_while_a_reader_is_being_reset_more_may_come(log: Log) -> None:
    add(log, 3)

    async def test() -> None:
        events = read(log, "foreign")
        assert await take(events, 1) == [RESET]
        for number in range(7):
            await log.append("order", f"later {number}")
        assert await take(events, 5) == list(log.events)

    run(test)


def test_one_event_behind_is_not_too_far(log: Log) -> None:
    kept = add(log, 1)

    async def test() -> None:
        events = read(log, "")
        assert await take(events, 1) == kept
        for number in range(5):
            await log.append("order", f"{number}")
        # What was seen is dropped, and everything behind it is still there.
        assert await take(events, 5) == list(log.events)

    run(test)


def test_a_reader_ends_with_the_feed(log: Log) -> None:
    kept = add(log, 2, end=True)

    async def test() -> None:
        assert [event async for event in read(log, "")] == kept
        assert [event async for event in read(log, kept[1].id)] == kept[2:]
        assert [event async for event in read(log, kept[2].id)] == []

    run(test)


def test_every_waiting_reader_is_woken_by_the_end(log: Log) -> None:
    async def test() -> None:
        async def collect() -> list[Event]:
            return [event async for event in read(log, "")]

        readers = [asyncio.ensure_future(collect()) for _ in range(100)]
        await asyncio.sleep(0)
        await log.append("order", "1")
        await asyncio.sleep(0)
        await log.append(END, "{}")
        for events in await asyncio.gather(*readers):
            assert events == list(log.events)

    run(test)


STEPS = st.lists(st.sampled_from(["append", "read", "turn", "leave"]), max_size=60)


@given(STEPS)
def test_however_it_is_interleaved_nothing_is_lost_and_nothing_doubled(
    steps: list[str],
) -> None:
    log = Log()
    seen: list[Event] = []

    async def test() -> None:
        events = read(log, "")
        waiting: asyncio.Future[Event] | None = None
        for step in [*steps, "append", "append", "leave"]:
            if step == "append":
                await log.append("order", f"{log.total}")
            elif step == "read":
                waiting = waiting or asyncio.ensure_future(anext(events))
            elif step == "turn":
                await asyncio.sleep(0)
            else:
                if waiting and not waiting.done():
                    waiting.cancel()
                elif waiting:
                    seen.append(waiting.result())
                if waiting:
                    await asyncio.wait([waiting])
                await events.aclose()
                events, waiting = read(log, seen[-1].id if seen else ""), None
            if waiting and waiting.done():
                seen.append(waiting.result())
                waiting = None
        await log.append(END, "{}")
        seen.extend([event async for event in events])

    run(test)
    assert seen == list(log.events)


# On the wire


def test_the_headers_say_what_it_is_and_tell_a_proxy_not_to_hold_it(log: Log) -> None:
    add(log, 1, end=True)
    answer = asked()
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["cache-control"] == "no-cache"


def test_these_are_the_bytes_of_an_answer(log: Log) -> None:
    first, last = add(log, 1, end=True)
    body = asked({b"last-event-id": b"foreign"}).content
    retry, rest = body.split(b"\n\n", 1)
    assert 1000 <= int(retry.removeprefix(b"retry: ")) < 3000
    assert rest == (
        b"event: reset\ndata: {}\nid: \n\n"
        b"event: order\ndata: 0\nid: %s\n\n"
        b"event: end\ndata: {}\nid: %s\n\n" % (first.id.encode(), last.id.encode())
    )


def test_a_hundred_clients_are_not_told_the_same_time(log: Log) -> None:
    add(log, 0, end=True)
    with TestClient(sse_resumable.app) as client:
        told = {sse.parse([client.get("/events").content]).retry for _ in range(100)}
    assert len(told) > 50
    assert all(time in RETRY for time in told)
    assert range(1000, 3000) == RETRY


def test_a_known_id_gets_only_what_came_after_it(log: Log) -> None:
    kept = add(log, 3, end=True)
    for place, event in enumerate(kept[:-1]):
        answer = asked({b"last-event-id": event.id.encode()})
        assert got(answer.content) == list(kept[place + 1 :])


@pytest.mark.parametrize("hostile", HOSTILE)
def test_whatever_the_header_holds_the_answer_is_a_stream(
    log: Log, hostile: bytes
) -> None:
    """Attack: A Last-Event-ID of any bytes: the feed begins anew."""
    kept = add(log, 7, end=True)
    answer = asked({b"last-event-id": hostile})
    assert answer.status_code == 200
    assert got(answer.content) == [("", "reset", "{}"), *kept]


@pytest.mark.parametrize("hostile", ["%00", "%ff", "%0d%0aid:%201", "9" * 8000])
def test_whatever_the_query_holds_as_well(log: Log, hostile: str) -> None:
    kept = add(log, 7, end=True)
    answer = asked(path=f"/events?after={hostile}")
    assert got(answer.content) == [("", "reset", "{}"), *kept]


def test_an_empty_header_is_none(log: Log) -> None:
    kept = add(log, 2, end=True)
    assert got(asked({b"last-event-id": b""}).content) == kept


def test_a_page_may_name_its_place_itself_and_the_header_wins(log: Log) -> None:
    kept = add(log, 4, end=True)
    path = f"/events?after={kept[0].id}"
    assert got(asked(path=path).content) == kept[1:]
    headers = {b"last-event-id": kept[2].id.encode()}
    assert got(asked(headers, path).content) == kept[3:]


def test_after_the_end_a_client_that_has_seen_it_gets_204(log: Log) -> None:
    kept = add(log, 2, end=True)
    for answer in (
        asked({b"last-event-id": kept[-1].id.encode()}),
        asked(path=f"/events?after={kept[-1].id}"),
    ):
        assert (answer.status_code, answer.content) == (204, b"")


def test_a_browser_forgets_its_id_at_a_reset(log: Log) -> None:
    add(log, 1, end=True)
    body = asked({b"last-event-id": b"foreign"}).content
    assert sse.parse([body[: body.index(b"event: order")]]).last_event_id == ""
    assert sse.parse([body]).last_event_id == log.end


def living(log: Log, count: float) -> Callable[[], Awaitable[None]]:
    """Let a log fill by itself, and note it."""

    async def follow() -> None:
        number = 0
        while number < count:
            note(f"made {number}")
            await log.append("order", f"{number}")
            for _ in range(TURNS):
                await asyncio.sleep(0)
            number += 1
        note("all made")
        await log.append(END, "{}")

    return follow


def test_an_event_is_a_chunk_and_goes_out_before_the_next_is_made(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "follow", living(log, 4))
    done = drive(sse_resumable.app, "/events")
    assert [len(sse.parse([chunk]).events) for chunk in done.chunks] == [
        0,
        1,
        1,
        1,
        1,
        1,
    ]
    for number in range(3):
        assert f"made {number + 1}" not in done.before(f"chunk {number + 2}")
    assert "all made" not in done.before("chunk 5")


def test_the_first_chunk_is_the_time_to_wait_even_if_nothing_has_happened(
    log: Log,
) -> None:
    assert log.total == 0
    done = drive(sse_resumable.app, "/events", disconnect_at=1)
    assert done.chunks[0].startswith(b"retry: ")
    assert done.error is None


def noted_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """Note when a reader is closed."""

    async def noted(log: Log, last_id: str) -> AsyncIterator[Event]:
        try:
            async for event in read(log, last_id):
                yield event
        finally:
            note("closed")

    monkeypatch.setattr(sse_resumable, "read", noted)


@pytest.mark.parametrize("stalled", [False, True])
def test_a_reader_is_closed_at_once_when_its_client_leaves(
    log: Log, monkeypatch: pytest.MonkeyPatch, stalled: bool
) -> None:
    noted_reader(monkeypatch)
    monkeypatch.setattr(log, "follow", living(log, math.inf))
    done = drive(
        sse_resumable.app, "/events", stall_at=3 if stalled else None, disconnect_at=3
    )
    assert "closed" in done.before("returned")
    assert done.error is None
    assert len(log.news._waiters) == 0


def test_a_silent_feed_is_left_as_cleanly(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted_reader(monkeypatch)
    add(log, 1)
    done = drive(sse_resumable.app, "/events", disconnect_at=2)
    assert "closed" in done.before("returned")
    assert len(log.news._waiters) == 0


def test_a_slow_client_that_leaves_is_no_error_and_another_error_is(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "follow", living(log, 50))
    assert (
        drive(sse_resumable.app, "/events", stall_at=3, disconnect_at=3).error is None
    )

    async def broken(*_: object) -> AsyncIterator[Event]:
        yield RESET
        raise ValueError("no such order")

    monkeypatch.setattr(sse_resumable, "read", broken)
    error = drive(sse_resumable.app, "/events").error
    while isinstance(error, ExceptionGroup):
        (error,) = error.exceptions
    assert isinstance(error, ValueError)


def test_while_nothing_happens_the_feed_is_pinged(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert log.total == 0
    monkeypatch.setattr(fastapi.routing, "_PING_INTERVAL", 0.01)
    assert b": ping\n\n" in drive(sse_resumable.app, "/events", disconnect_at=3).body
    assert fastapi.sse._PING_INTERVAL == 15


# The shop


def test_an_order_goes_through_all_its_states_whoever_reads(log: Log) -> None:
    with TestClient(sse_resumable.app) as client:
        answer = client.post("/orders/7")
        assert answer.status_code == 202
        assert answer.json() == {"id": 7, "state": "accepted"}
        with client.stream("GET", "/events") as feed:
            # This client leaves after the first event.
            assert any(b"placed" in chunk for chunk in feed.iter_raw())
        states = []
        with client.stream("GET", "/events") as feed:
            for line in feed.iter_lines():
                if line.startswith("data: "):
                    states.append(json.loads(line.removeprefix("data: ")))
                if len(states) == 4:
                    break
    names = ["placed", "paid", "packed", "shipped"]
    assert states == [{"id": 7, "state": name} for name in names]
    assert [event.name for event in log.events] == ["order"] * 4


def test_the_shop_pauses_half_a_second_after_each_state(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sse_resumable.PAUSE == 0.001
    monkeypatch.undo()
    assert sse_resumable.PAUSE == 0.5
    paused: list[float] = []

    async def pause(seconds: float) -> None:
        paused.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", pause)
    asyncio.run(sse_resumable.work_on(7, log))
    assert paused == [0.5] * 4


def test_the_feed_is_ended_for_all_and_takes_no_more_orders(log: Log) -> None:
    kept = add(log, 1)
    with TestClient(sse_resumable.app) as client:
        with client.stream("GET", "/events") as feed:
            assert client.post("/end").status_code == 204
            assert client.post("/end").status_code == 204
            body = feed.read()
        answer = client.post("/orders/7")
    assert got(body) == [*kept, (log.end, "end", "{}")]
    assert (answer.status_code, answer.json()["detail"]) == (409, "The feed has ended")


@pytest.mark.parametrize("bad", ["0", "-1", "1000000", "x", "7.5", "%D9%A3x", "%00"])
def test_an_order_has_a_number_from_1_to_999999(log: Log, bad: str) -> None:
    with TestClient(sse_resumable.app) as client:
        assert client.post(f"/orders/{bad}").status_code == 422
        assert client.post("/orders/1").status_code == 202
        assert client.post("/orders/999999").status_code == 202
    assert log.end == ""


def test_the_log_is_closed_with_the_server(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[bool] = []

    async def close() -> None:
        closed.append(True)

    monkeypatch.setattr(log, "close", close)
    with TestClient(sse_resumable.app):
        assert closed == []
    assert closed == [True]


def test_the_work_ends_with_the_server(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse_resumable, "PAUSE", 60)
    with TestClient(sse_resumable.app) as client:
        client.post("/orders/7")
    # Leaving the block has stopped the server, which did not wait a minute.
    assert len(log.events) <= 1


def test_a_store_of_an_unknown_kind_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STREAM_STORE", "postgresql://localhost")
    with pytest.raises(ValueError, match="redis://"), TestClient(sse_resumable.app):
        pass


def test_the_page_is_served_and_loads_nothing_from_another_host(log: Log) -> None:
    answer = asked(path="/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "new EventSource" in answer.text
    assert "http" not in answer.text
    assert log.total == 0


def test_an_order_is_json() -> None:
    assert Order(id=7, state="paid").model_dump_json() == '{"id":7,"state":"paid"}'
