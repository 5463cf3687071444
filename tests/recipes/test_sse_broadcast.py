"""docs/recipes/sse_broadcast.md: every claim the page makes, proved in one process.

tests/servers/test_sse_broadcast.py proves those about workers, Redis and real sockets.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest
from fastapi.testclient import TestClient
from redis.exceptions import ConnectionError as RedisConnectionError

from recipes import sse_broadcast as recipe
from recipes.sse_broadcast import (
    LATEST,
    RETRY,
    STREAM,
    Channel,
    Feed,
    LocalChannel,
    Order,
    RedisChannel,
    app,
    frame,
    keep_alive,
    relay,
    shop,
)
from tests.kit.asgi import drive, note
from tests.kit.sse import parse

FIRST = b"retry: 2000\n\n"
TURNS = 20  # of the event loop, until everything that can go on has gone on
sleep = asyncio.sleep  # Some tests put something else in its place.
SECOND_EVENT = b'event: order\ndata: {"id":1,"state":"paid"}\n\n'


@pytest.fixture(autouse=True)
def _in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)


@pytest.fixture
def feeds(monkeypatch: pytest.MonkeyPatch) -> list[Feed]:
    """Let the shop work faster; give the feeds that the recipe makes."""
    made: list[Feed] = []

    class Noted(Feed):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

        def add(self, event: bytes) -> None:
            note("add")
            super().add(event)

    monkeypatch.setattr(recipe, "Feed", Noted)
    monkeypatch.setattr(recipe, "PAUSE", 0.01)
    return made


def in_a_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test's coroutine; nothing in it may wait for ever."""
    asyncio.run(asyncio.wait_for(test(), 30))


async def rest() -> None:
    """Let everything go on that can."""
    for _ in range(TURNS):
        await sleep(0)


class Client:
    """One that reads the feed, as fast as it is given to it."""

    def __init__(self, feed: Feed) -> None:
        self.got: list[bytes] = []
        self.task = asyncio.create_task(self.read(feed.events(feed.end)))

    async def read(self, events: AsyncIterator[bytes]) -> None:
        """Read to the end, which never comes."""
        async for event in events:
            self.got.append(event)

    async def leave(self) -> None:
        """Leave, as a browser tab does."""
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


def number(n: int) -> bytes:
    return frame("order", str(n))


# One feed, many listeners.


def test_every_listener_gets_every_event_once_and_in_order() -> None:
    async def test() -> None:
        feed = Feed()
        clients = [Client(feed) for _ in range(50)]
        for n in range(300):
            feed.add(number(n))
            await rest()
        for client in clients:
            assert client.got == [FIRST, *(number(n) for n in range(300))]
            await client.leave()

    in_a_loop(test)


def test_an_event_is_written_once_for_all_listeners() -> None:
    async def test() -> None:
        feed = Feed()
        clients = [Client(feed) for _ in range(3)]
        await rest()
        feed.add(number(1))
        await rest()
        # The same object, not one that is equal.
        assert len({id(client.got[1]) for client in clients}) == 1
        for client in clients:
            await client.leave()

    in_a_loop(test)


def test_a_listener_hears_what_happens_from_its_request_on() -> None:
    async def test() -> None:
        feed = Feed()
        feed.add(number(1))
        events = feed.events(feed.end)
        feed.add(number(2))  # before the answer has begun
        assert [await anext(events), await anext(events)] == [FIRST, number(2)]
        late = Client(feed)
        await rest()
        feed.add(number(3))
        await rest()
        assert late.got == [FIRST, number(3)]
        assert await anext(events) == number(3)
        await late.leave()

    in_a_loop(test)


@pytest.mark.parametrize("behind", [1, LATEST - 1, LATEST])
def test_a_listener_may_be_100_events_behind_and_misses_none(behind: int) -> None:
    async def test() -> None:
        feed = Feed()
        events = feed.events(feed.end)
        for n in range(behind):
            feed.add(number(n))
        got = [await anext(events) for _ in range(behind + 1)]
        assert got == [FIRST, *(number(n) for n in range(behind))]

    assert LATEST == 100
    in_a_loop(test)


@pytest.mark.parametrize("missed", [1, 2, 1000])
def test_one_that_is_slower_is_told_how_many_it_missed_and_goes_on(missed: int) -> None:
    async def test() -> None:
        feed = Feed()
        feed.add(number(-1))  # was never its own to miss
        events = feed.events(feed.end)
        for n in range(LATEST + missed):
            feed.add(number(n))
        gap = b'event: missed\ndata: {"events":%d}\n\n' % missed
        assert [await anext(events), await anext(events)] == [FIRST, gap]
        kept = [await anext(events) for _ in range(LATEST)]
        assert kept == [number(n) for n in range(missed, LATEST + missed)]
        waiting = asyncio.ensure_future(anext(events))
        await rest()
        assert not waiting.done()
        feed.add(number(0))
        assert await waiting == number(0)

    in_a_loop(test)


def test_it_is_told_at_the_place_of_the_gap() -> None:
    async def test() -> None:
        feed = Feed()
        events = feed.events(feed.end)
        feed.add(number(0))
        feed.add(number(1))
        assert [await anext(events), await anext(events)] == [FIRST, number(0)]
        # Its client stops reading here.
        for n in range(2, LATEST + 5):
            feed.add(number(n))
        assert await anext(events) == b'event: missed\ndata: {"events":4}\n\n'
        assert await anext(events) == number(5)

    in_a_loop(test)


def test_a_listener_that_does_not_read_adds_nothing_and_holds_nobody_up() -> None:
    """Attack: A listener never reads: no memory, and nobody waits for it."""

    async def test() -> None:
        feed = Feed()
        stalled = feed.events(feed.end)
        await anext(stalled)
        client = Client(feed)
        for n in range(10 * LATEST):
            feed.add(number(n))
            await rest()
        assert client.got == [FIRST, *(number(n) for n in range(10 * LATEST))]
        assert len(feed.latest) == LATEST
        assert len(feed.asleep) == 1  # the other one
        await client.leave()

    in_a_loop(test)


def test_one_that_leaves_is_forgotten_at_once() -> None:
    async def test() -> None:
        feed = Feed()
        clients = [Client(feed) for _ in range(10)]
        await rest()
        assert len(feed.asleep) == 10
        for client in clients[:9]:
            await client.leave()
        assert len(feed.asleep) == 1
        await clients[9].leave()
        assert not feed.asleep

    in_a_loop(test)


def test_an_event_may_come_while_one_is_leaving_or_being_woken() -> None:
    async def test() -> None:
        feed = Feed()
        leaving, staying = Client(feed), Client(feed)
        await rest()
        leaving.task.cancel()
        feed.add(number(1))
        feed.add(number(2))
        await rest()
        assert leaving.task.cancelled()
        assert staying.got == [FIRST, number(1), number(2)]
        await staying.leave()

    in_a_loop(test)


def test_events_are_one_line_each_and_need_no_id() -> None:
    assert frame("order", '{"id":1}') == b'event: order\ndata: {"id":1}\n\n'


# The tasks.


class Ready:
    """A channel in which many orders are ready."""

    async def orders(self) -> AsyncIterator[str]:
        """Give them all at once."""
        for n in range(5 * LATEST):
            yield str(n)


def test_a_burst_overruns_nobody_who_reads() -> None:
    async def test() -> None:
        feed = Feed()
        clients = [Client(feed) for _ in range(20)]
        await rest()
        channel: Any = Ready()
        await relay(channel, feed)
        await rest()
        for client in clients:
            assert client.got == [FIRST, *(number(n) for n in range(5 * LATEST))]
            await client.leave()

    in_a_loop(test)


def test_idle_listeners_are_pinged_by_one_timer_and_miss_nothing_by_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paused: list[float] = []
    go_on = asyncio.Event()

    async def pause(seconds: float) -> None:
        paused.append(seconds)
        go_on.clear()
        await go_on.wait()

    async def test() -> None:
        feed = Feed()
        idle = [Client(feed), Client(feed)]
        busy = feed.events(feed.end)
        await anext(busy)
        feed.add(number(1))
        await rest()
        pinging = asyncio.create_task(keep_alive(feed))
        await rest()
        with monkeypatch.context() as patch:
            patch.setattr(recipe.asyncio, "sleep", pause)  # type: ignore[attr-defined]
            pinging.cancel()
            pinging = asyncio.create_task(keep_alive(feed))
            for _ in range(3):
                await rest()
                go_on.set()
            await rest()
        assert paused == [15.0] * 4
        for client in idle:
            assert client.got == [FIRST, number(1), *[b": ping\n\n"] * 3]
            await client.leave()
        # It had something to read, and gets that.
        assert await anext(busy) == number(1)
        pinging.cancel()

    in_a_loop(test)


def test_a_ping_is_no_event_to_a_client() -> None:
    assert parse([FIRST, b": ping\n\n", number(1)]).events == [
        ("order", "1", ""),
    ]


def test_the_shop_tells_something_only_while_anyone_listens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paused: list[float] = []

    async def pause(seconds: float) -> None:
        paused.append(seconds)
        await sleep(0)

    async def test() -> None:
        feed, channel = Feed(), LocalChannel()
        monkeypatch.setattr(recipe.asyncio, "sleep", pause)  # type: ignore[attr-defined]
        working = asyncio.create_task(shop(channel, feed))
        await rest()
        assert set(paused) == {1.0}
        assert channel.told.empty()
        client = Client(feed)
        told = [Order.model_validate_json(await channel.told.get()) for _ in range(9)]
        assert [(order.id, order.state) for order in told] == [
            *((1, state) for state in ("placed", "paid", "packed", "shipped")),
            *((2, state) for state in ("placed", "paid", "packed", "shipped")),
            (3, "placed"),
        ]
        working.cancel()
        await client.leave()

    in_a_loop(test)


def test_one_process_hands_orders_over_in_order_and_holds_up_who_tells_too_many() -> (
    None
):
    async def test() -> None:
        channel = LocalChannel()
        for n in range(LATEST):
            await channel.publish(Order(id=n + 1, state="paid"))
        more = asyncio.create_task(channel.publish(Order(id=999, state="paid")))
        await rest()
        assert not more.done()
        orders = channel.orders()
        told = [await anext(orders) for _ in range(LATEST + 1)]
        assert told[0] == '{"id":1,"state":"paid"}'
        assert told[-1] == '{"id":999,"state":"paid"}'
        await more

    in_a_loop(test)


# The endpoints.


@pytest.mark.usefixtures("feeds")
def test_the_answer_begins_at_once_and_each_event_goes_out_as_it_is_made() -> None:
    run = drive(app, "/events", disconnect_at=5)
    assert run.status == 200
    assert run.chunks[0] == FIRST
    assert run.chunks[2] == SECOND_EVENT
    assert RETRY == parse(run.chunks).retry == 2000
    assert "add" not in run.before("chunk 1")
    # What a buffered body could not do: the third event is out before the fourth is.
    for made in range(1, 5):
        assert run.before(f"chunk {made + 1}").count("add") == made


def test_the_headers_say_what_it_is_and_tell_a_proxy_not_to_hold_it(
    feeds: list[Feed],
) -> None:
    headers = drive(app, "/events", disconnect_at=1).headers
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["cache-control"] == "no-store"
    assert headers["x-accel-buffering"] == "no"
    assert len(feeds) == 1


@pytest.mark.parametrize("at", [1, 2, 4])
def test_an_idle_client_that_leaves_leaves_nothing_behind(
    feeds: list[Feed], at: int
) -> None:
    run = drive(app, "/events", disconnect_at=at)
    assert run.journal[-1] == "returned"
    assert run.error is None
    assert not feeds[0].asleep


@pytest.mark.parametrize("at", [0, 1, 2, 4])
def test_nor_does_one_that_had_stopped_reading(feeds: list[Feed], at: int) -> None:
    run = drive(app, "/events", stall_at=at, disconnect_at=at)
    assert run.journal[-1] == "returned"
    assert run.error is None
    assert not feeds[0].asleep


def test_one_that_leaves_a_source_that_never_rests_is_noticed_as_well(
    feeds: list[Feed], monkeypatch: pytest.MonkeyPatch
) -> None:
    # There is an order for each turn of the event loop, and one more is always waiting.
    async def restless(channel: Channel, _: Feed) -> None:
        while True:
            await channel.publish(Order(id=1, state="paid"))

    monkeypatch.setattr(recipe, "shop", restless)
    run = drive(app, "/events", disconnect_at=9)
    assert run.journal[-1] == "returned"
    assert "frozen" not in run.journal
    assert not feeds[0].asleep


def test_nor_does_one_whose_request_the_server_gives_up(feeds: list[Feed]) -> None:
    run = drive(app, "/events", cancel_at=2)
    assert not feeds[0].asleep
    assert run.status == 200


HOSTILE = ["", "7", "-1", "5_00", "' OR 1=1 --", "\xe9\x85", "9" * 8000, "\x00"]


@pytest.mark.usefixtures("feeds")
@pytest.mark.parametrize("last", HOSTILE, ids=range(len(HOSTILE)))
def test_a_browser_that_comes_back_hears_what_happens_from_then_on(last: str) -> None:
    headers = {"Last-Event-ID": last}
    run = drive(app, "/events", headers=headers, disconnect_at=3)
    assert run.status == 200
    assert run.chunks[0] == FIRST
    assert run.chunks[2] == SECOND_EVENT


def test_an_order_that_is_told_is_heard_by_all(feeds: list[Feed]) -> None:
    with TestClient(app) as client:
        answer = client.post("/orders/7/paid")
        assert (answer.status_code, answer.json()) == (202, {"id": 7, "state": "paid"})
        while not feeds[0].latest:
            client.get("/openapi.json")  # Its loop goes on meanwhile.
    assert list(feeds[0].latest) == [b'event: order\ndata: {"id":7,"state":"paid"}\n\n']


@pytest.mark.parametrize(
    "path",
    [
        *("0/paid", "-1/paid", "2147483648/paid", "x/paid", "7/lost", "1e999/paid"),
        *("NaN/paid", f"{'9' * 5000}/paid", "7/paid%0A%0Aevent:%20forged", "7/PAID"),
        *("7/%ff%00", "%00/paid", "7/paid%20"),
    ],
    ids=range(13),
)
def test_what_is_no_order_is_refused_and_told_to_nobody(
    path: str, feeds: list[Feed]
) -> None:
    """Attack: An id with line feeds, a NUL or 5,000 digits: 422, and nobody is told."""
    with TestClient(app) as client:
        assert client.post(f"/orders/{path}").status_code == 422
    assert feeds[0].end == 0


@pytest.mark.parametrize("number", [1, 2**31 - 1])
def test_the_smallest_and_the_largest_id_are_told(number: int) -> None:
    with TestClient(app) as client:
        assert client.post(f"/orders/{number}/shipped").json()["id"] == number


def test_without_redis_the_teller_learns_that_nobody_may_have_been_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(*_: object) -> None:
        raise RedisConnectionError("redis://:secret@127.0.0.1:6379")

    monkeypatch.setattr(LocalChannel, "publish", fail)
    with TestClient(app) as client:
        answer = client.post("/orders/7/paid")
    assert answer.status_code == 503
    assert answer.json() == {"detail": "Nobody may have been told."}


class Answers:
    """Stands for Redis: gives one answer after the other, and keeps what is asked."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.asked: list[Any] = []

    async def xread(self, places: dict[str, str], block: int) -> object:
        """Give the next answer, or raise it."""
        self.asked.append((dict(places), block))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def xadd(self, name: str, entry: dict[str, str], maxlen: int) -> None:
        """Keep what is added."""
        self.asked.append((name, entry, maxlen))


def test_after_an_error_it_goes_on_behind_the_last_order_that_was_read(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(recipe, "PATIENCE", 0)
    first = [[STREAM, [("5-0", {"order": "a"}), ("6-0", {"order": "b"})]]]
    second = [[STREAM, [("7-0", {"order": "c"})]]]
    redis = Answers(first, RedisConnectionError("away"), [], second)
    channel = RedisChannel(redis, "4-0")  # type: ignore[arg-type]

    async def test() -> None:
        orders = channel.orders()
        assert [await anext(orders) for _ in range(3)] == ["a", "b", "c"]

    asyncio.run(test())
    places = [places[STREAM] for places, _ in redis.asked]
    assert places == ["4-0", "6-0", "6-0", "6-0"]
    assert channel.last == "7-0"
    assert caplog.messages == ["No orders from Redis: away"]


def test_an_order_is_appended_to_a_stream_with_a_bound() -> None:
    redis = Answers()
    channel = RedisChannel(redis, "0")  # type: ignore[arg-type]
    asyncio.run(channel.publish(Order(id=1, state="paid")))
    assert redis.asked == [(STREAM, {"order": '{"id":1,"state":"paid"}'}, 1000)]
