"""docs/recipes/sse_resumable.md: its claims on real servers, and with a real Redis."""

import asyncio
import gc
import itertools
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from pathlib import Path
from types import AsyncGeneratorType
from typing import Any

import anyio
import httpx2
import pytest
import redis.asyncio
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MaxConnectionsError

from cookbook.background import serving
from recipes import sse_resumable
from recipes.sse_resumable import END, RESET, Event, Log, RedisLog, read
from tests.kit import clients, servers, sse
from tests.kit.changed import changed
from tests.kit.redis import Redis
from tests.kit.redis import redis as run_redis
from tests.kit.servers import (
    HOST,
    WAIT,
    Answer,
    Server,
    free_port,
    raw_get,
    serve,
    uvicorn,
)

pytestmark = pytest.mark.timeout(servers.START + 30)

APP = "recipes.sse_resumable:app"
QUICK = "tests.servers.watched_sse_resumable:app"
STATES = ["placed", "paid", "packed", "shipped"]
Start = Callable[..., AbstractContextManager[Server]]


@pytest.fixture(scope="module")
def real_redis() -> Iterator[Redis]:
    with run_redis() as running:
        yield running


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> str:
    """Give a STREAM_STORE that holds nothing."""
    if request.param == "memory":
        return "memory"
    running: Redis = request.getfixturevalue("real_redis")
    return emptied(running)


def emptied(server: Redis) -> str:
    """Empty a Redis, and give its address."""

    async def flush() -> None:
        async with redis.asyncio.Redis.from_url(server.url) as client:
            await client.flushall()

    asyncio.run(flush())
    return server.url


def at(port: int, app: str, store: str) -> AbstractContextManager[Server]:
    """Serve an application with uvicorn on this port."""
    argv = [sys.executable, "-u", "-m", "uvicorn", app, "--port", str(port)]
    return serve(argv, port, env={"STREAM_STORE": store}, warm=True)


class Reader:
    """What a client knows that follows the standard and the page."""

    def __init__(self) -> None:
        self.events: list[sse.Event] = []
        self.last_id = ""
        self.resets = 0
        self.body = b""  # of the connection that is open

    def headers(self) -> dict[str, str]:
        """Give the header that a browser sends when it connects again."""
        return {"Last-Event-ID": self.last_id} if self.last_id else {}

    def take(self, body: bytes) -> None:
        """Take the body of one connection, as far as it came."""
        for event in sse.parse([body]).events:
            self.last_id = event.id
            if event.event == "reset":
                self.resets += 1
                self.events.clear()
            else:
                self.events.append(event)

    def follow(self, port: int, until: int, query: str = "") -> None:
        """Read over one connection until so many events are known, then leave."""
        with raw_get(port, f"/events{query}", self.headers()) as answer:
            self.read_on(answer, until)

    def read_on(self, answer: Answer, until: int) -> None:
        """Read on until so many events are known, or the feed ends."""
        while len(self.events) < until:
            chunk = answer.chunk()
            if not chunk:
                return
            # Each chunk is one event, or several.
            self.take(chunk)

    def states(self) -> list[tuple[int, str]]:
        """Give what it knows of the orders."""
        orders = [json.loads(e.data) for e in self.events if e.event == "order"]
        return [(order["id"], order["state"]) for order in orders]


def post(server: Server, path: str) -> None:
    answer = httpx2.post(f"{server.url}{path}", trust_env=False)
    assert answer.is_success, answer.text


def whole(port: int) -> Reader:
    """Read a feed that has ended, from the oldest event that is kept."""
    reader = Reader()
    with raw_get(port, "/events") as answer:
        reader.take(answer.rest())
    assert reader.events[-1].event == "end"
    return reader


def orders(*ids: int) -> list[tuple[int, str]]:
    return [(order_id, state) for order_id in ids for state in STATES]


# Cut anywhere


def cut_off(port: int, headers: dict[str, str], size: int) -> tuple[bytes, bool]:
    """Read so many bytes behind the head and reset the connection; True if all came."""
    # Or the server would keep the connection open behind the last byte.
    headers = {**headers, "Connection": "close"}
    with raw_get(port, "/events", headers) as answer:
        raw = answer.stream.read(size)
        answer.abort()
    return raw, len(raw) < size


def dechunked(raw: bytes) -> bytes:
    """Take the chunked coding away, as far as it came (RFC 9112, 7.1)."""
    body = b""
    while b"\r\n" in raw:
        size, _, rest = raw.partition(b"\r\n")
        length = int(size, 16)
        body += rest[:length]
        raw = rest[length + 2 :]
    return body


@pytest.mark.timeout(120)
def test_cut_at_every_byte_and_resumed_the_feed_is_the_log_exactly_once(
    store: str,
) -> None:
    with uvicorn(QUICK, env={"STREAM_STORE": store}) as server:
        post(server, "/orders/7")
        Reader().follow(server.port, until=4)
        post(server, "/end")
        log = whole(server.port).events
        assert len(log) == 5
        # In memory also a feed that begins with a reset; with Redis one lasts a second.
        begun = [""] if store != "memory" else ["", "foreign"]
        cuts = 0
        for first_id in begun:
            for size in itertools.count(1):
                reader = Reader()
                reader.last_id = first_id
                raw, complete = cut_off(server.port, reader.headers(), size)
                if complete:
                    break
                reader.take(dechunked(raw))
                seen = len(reader.events)
                with raw_get(server.port, "/events", reader.headers()) as answer:
                    if seen == len(log):
                        assert answer.head.startswith("HTTP/1.1 204 ")
                    else:
                        reader.take(answer.rest())
                assert reader.events == log, f"cut after {size} bytes"
                cuts += 1
        assert cuts > 300 * len(begun)
        assert "Traceback" not in server.output()


@pytest.mark.parametrize("start", [uvicorn, servers.hypercorn, servers.granian])
def test_on_every_server_an_event_comes_before_the_next_is_made_and_can_be_resumed(
    start: Start,
) -> None:
    with start(APP, env={"STREAM_STORE": "memory"}) as server:
        with raw_get(server.port, "/events") as answer:
            assert answer.chunk().startswith(b"retry: ")
            post(server, "/orders/7")
            reader = Reader()
            reader.read_on(answer, until=1)
            # Half a second before the next state, the first is here.
            assert reader.states() == [(7, "placed")]
        reader.follow(server.port, until=4)
        assert reader.states() == orders(7)
        post(server, "/end")
        reader.follow(server.port, until=5)
        assert reader.resets == 0
        with raw_get(server.port, "/events", reader.headers()) as answer:
            assert answer.head.split()[1] == "204"
        foreign = Reader()
        foreign.last_id = "of another server"
        foreign.follow(server.port, until=5)
        assert (foreign.resets, foreign.events) == (1, reader.events)


@pytest.mark.parametrize("start", [uvicorn, servers.hypercorn, servers.granian])
def test_on_every_server_an_early_close_ends_the_request_and_no_order(
    start: Start,
) -> None:
    with start(QUICK, env={"STREAM_STORE": "memory"}) as server:
        with raw_get(server.port, "/events") as answer:
            answer.chunk()
            post(server, "/orders/7")
        server.expect("over /orders/7")
        server.expect("over /events")
        reader = Reader()
        reader.follow(server.port, until=4)
        assert reader.states() == orders(7)
        server.expect("over /events")
        assert "Traceback" not in server.output()


@pytest.mark.parametrize(
    "hostile",
    [
        "-1",
        "5_00",
        "\xd9\xa3",
        "caf\xe9",
        "\xff\xfe",
        "'; DROP TABLE x",
        "9" * 8000,
        "\t",
    ],
)
def test_no_header_ends_an_event_source_that_could_go_on(
    ended_feed: Server, hostile: str
) -> None:
    headers = {"Last-Event-ID": hostile}
    with raw_get(ended_feed.port, "/events", headers) as answer:
        assert answer.head.startswith("HTTP/1.1 200 OK")
        events = sse.parse([answer.rest()]).events
    names = [event.event for event in events]
    # A header of blanks alone is empty: such a client has no id.
    assert names == (["end"] if hostile == "\t" else ["reset", "end"])


@pytest.fixture(scope="module")
def ended_feed() -> Iterator[Server]:
    with uvicorn(QUICK) as server:
        post(server, "/end")
        yield server


# Processes


def test_in_memory_each_process_has_a_log_of_its_own() -> None:
    with uvicorn(QUICK) as one, uvicorn(QUICK) as other:
        post(one, "/orders/1")
        post(other, "/orders/2")
        reader = Reader()
        reader.follow(one.port, until=4)
        assert reader.states() == orders(1)
        Reader().follow(other.port, until=4)
        post(other, "/end")
        reader.follow(other.port, until=10**6)
        assert reader.resets == 1
        assert reader.states() == orders(2)


def test_on_redis_a_client_resumes_at_another_process(real_redis: Redis) -> None:
    env = {"STREAM_STORE": emptied(real_redis)}
    with uvicorn(APP, env=env) as one, uvicorn(APP, env=env) as other:
        reader = Reader()
        post(one, "/orders/7")
        for count, server in enumerate([other, one, other, one], 1):
            reader.follow(server.port, until=count)
        post(one, "/end")
        reader.follow(other.port, until=5)
        assert (reader.states(), reader.resets) == (orders(7), 0)
        assert whole(one.port).events == whole(other.port).events == reader.events


@pytest.mark.timeout(servers.START * 2)
def test_two_workers_on_redis_are_one_feed(real_redis: Redis) -> None:
    env = {"STREAM_STORE": emptied(real_redis)}
    with uvicorn(QUICK, "--workers", "2", env=env) as server:
        reader = Reader()
        processes = set()
        for number in range(1, 100):
            with raw_get(server.port, "/events", reader.headers()) as answer:
                fields = answer.head.lower().split("\r\n")
                processes |= {f for f in fields if f.startswith("x-process")}
                post(server, f"/orders/{number}")
                reader.read_on(answer, until=4 * number)
            if len(processes) == 2 and number >= 10:
                break
        assert len(processes) == 2
        post(server, "/end")
        reader.follow(server.port, until=10**6)
        assert reader.events == whole(server.port).events
        assert reader.states() == orders(*range(1, number + 1))
        assert reader.resets == 0


# Redis away


def test_redis_restarted_in_mid_stream_loses_and_doubles_nothing(
    tmp_path: Path,
) -> None:
    port = free_port()
    with run_redis(port=port, folder=tmp_path, keep=True) as first:
        url = first.url
        process = first.server.process
        running = uvicorn(APP, env={"STREAM_STORE": url})
        server = running.__enter__()
        opened = raw_get(server.port, "/events")
        answer = opened.__enter__()
        post(server, "/orders/7")
        reader = Reader()
        reader.read_on(answer, until=2)
        # Without a goodbye, while the shop is at work.
        process.send_signal(signal.SIGKILL)
        process.wait(WAIT)
    try:
        server.expect("Redis did not")
        post(server, "/orders/8")
        with run_redis(port=port, folder=tmp_path, keep=True):
            reader.read_on(answer, until=8)
            late = Reader()
            late.follow(server.port, until=8)
            post(server, "/end")
            reader.read_on(answer, until=10**6)
            log = whole(server.port).events
        assert reader.resets == late.resets == 0
        assert reader.events == log
        assert sorted(reader.states()) == sorted(orders(7, 8))
        ids = [event.id for event in log]
        assert len(set(ids)) == len(ids)
        assert "Traceback" not in server.output()
    finally:
        opened.__exit__(None, None, None)
        running.__exit__(None, None, None)


def test_a_redis_that_comes_back_empty_resets_the_clients() -> None:
    port = free_port()
    with run_redis(port=port) as first:
        running = uvicorn(QUICK, env={"STREAM_STORE": first.url})
        server = running.__enter__()
        opened = raw_get(server.port, "/events")
        answer = opened.__enter__()
        post(server, "/orders/7")
        reader = Reader()
        reader.read_on(answer, until=4)
    try:
        with run_redis(port=port):
            post(server, "/orders/8")
            while reader.resets == 0:
                reader.take(answer.chunk())
            reader.read_on(answer, until=4)
        assert reader.states() == orders(8)
    finally:
        opened.__exit__(None, None, None)
        running.__exit__(None, None, None)


def connections(server: Redis) -> int:
    """Count the connections to a Redis, without this one."""

    async def count() -> int:
        async with redis.asyncio.Redis.from_url(server.url) as client:
            return len(await client.client_list()) - 1

    return asyncio.run(count())


@pytest.mark.timeout(120)
def test_a_hundred_clients_resume_at_once_and_redis_sees_one_connection(
    real_redis: Redis,
) -> None:
    store, port = emptied(real_redis), free_port()
    readers = [Reader() for _ in range(100)]
    with ThreadPoolExecutor(100) as pool:
        with at(port, APP, store) as server:
            post(server, "/orders/7")
            begun = threading.Barrier(101)

            def lose(reader: Reader) -> None:
                gone = suppress(OSError, EOFError)
                with gone, raw_get(port, "/events") as answer:
                    reader.read_on(answer, until=1)
                    begun.wait(20)
                    reader.read_on(answer, until=10**6)

            lost = [pool.submit(lose, reader) for reader in readers]
            begun.wait(20)
            assert connections(real_redis) <= 3
            os.killpg(server.process.pid, signal.SIGKILL)
            for one in lost:
                one.result(20)
        assert all(reader.events for reader in readers)
        with at(port, QUICK, store) as server:
            begun = threading.Barrier(101)

            def resume(reader: Reader) -> None:
                begun.wait(20)
                reader.follow(port, until=10**6)

            resumed = [pool.submit(resume, reader) for reader in readers]
            begun.wait(20)
            post(server, "/orders/8")
            Reader().follow(port, until=len(readers[0].events) + 4)
            assert connections(real_redis) <= 3
            post(server, "/end")
            for one in resumed:
                one.result(20)
            log = whole(port).events
    for reader in readers:
        assert reader.resets == 0
        assert reader.events == log


# Clients that leave


@pytest.mark.parametrize("stalls", [False, True], ids=["reading", "never reading"])
def test_two_hundred_abrupt_disconnects_leave_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], stalls: bool
) -> None:
    log = Log()
    loops: list[asyncio.AbstractEventLoop] = []

    async def follow() -> None:
        loops.append(asyncio.get_running_loop())
        big = "x" * (200_000 if stalls else 10)
        for _ in range(30):
            await log.append("order", big)
        await asyncio.Event().wait()

    monkeypatch.setattr(log, "follow", follow)
    monkeypatch.setattr(sse_resumable, "Log", lambda: log)
    gc.disable()
    try:
        with serving(sse_resumable.app) as address:
            port = int(address.rpartition(":")[2])
            before = tasks_of(loops[0])
            for _ in range(200):
                with raw_get(port, "/events") as answer:
                    if not stalls:
                        answer.chunk()
                    answer.abort()
            deadline = 500
            while tasks_of(loops[0]) > before and deadline:
                deadline -= 1
                threading.Event().wait(0.01)
            assert tasks_of(loops[0]) <= before
            assert len(log.news._waiters) == 0
            assert unfinished(read) == unfinished(sse_resumable.events_of) == 0
            # FastAPI drops the endpoint's own generator, which holds nothing by now.
            gc.collect()
            assert unfinished(sse_resumable.feed) == 0
    finally:
        gc.enable()
    assert "Error" not in capfd.readouterr().err


def tasks_of(loop: asyncio.AbstractEventLoop) -> int:
    return len(asyncio.all_tasks(loop))


def unfinished(function: Callable[..., object]) -> int:
    """Count the generators of a function that have not come to their end."""
    made = [o for o in gc.get_objects() if isinstance(o, AsyncGeneratorType)]
    ours = [o for o in made if o.ag_code is function.__code__]
    return len([o for o in ours if o.ag_frame is not None])


# The log in Redis, seen from inside


@pytest.fixture
def logs(real_redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Callable[[], RedisLog]:
    """Make logs on one empty stream, each as another process would; five are kept."""
    url = emptied(real_redis)
    monkeypatch.setattr(sse_resumable, "KEEP", 5)
    monkeypatch.setattr(sse_resumable, "BLOCK", 20)
    monkeypatch.setattr(sse_resumable, "AGAIN", 0.02)
    # uvicorn keeps its log to itself, once it has run in this process.
    monkeypatch.setattr(sse_resumable, "console", logging.getLogger("recipe"))
    return lambda: RedisLog(url)


@asynccontextmanager
async def following(*logs: RedisLog) -> AsyncIterator[None]:
    """Let logs follow their stream; at the end close them."""
    # Not a task that is cancelled once: redis-py now and then swallows a cancellation.
    async with anyio.create_task_group() as tasks:
        for log in logs:
            tasks.start_soon(log.follow)
        yield
        tasks.cancel_scope.cancel()
    for log in logs:
        await log.close()


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(WAIT):
            await test()

    asyncio.run(limited())


async def take(events: AsyncIterator[Event], count: int) -> list[Event]:
    return [await anext(events) for _ in range(count)]


def test_the_ids_are_those_of_redis_and_the_same_everywhere(
    logs: Callable[[], RedisLog],
) -> None:
    async def test() -> None:
        one, other = logs(), logs()
        async with following(one, other):
            for data in ("crème", "two\nlines", "\0"):
                await one.append("order", data)
            events = await take(read(one, ""), 3)
            assert [event.data for event in events] == ["crème", "two\nlines", "\0"]
            assert events == await take(read(other, ""), 3)
            kept: Any = await one.redis.xrange(sse_resumable.KEY)
            assert [event.id for event in events] == [entry[0] for entry in kept]

    run(test)


def test_an_id_that_is_not_copied_yet_is_waited_for(
    logs: Callable[[], RedisLog],
) -> None:
    async def test() -> None:
        one, other = logs(), logs()
        async with following(one):
            await one.append("order", "1")
            await one.append("order", "2")
            first, second = await take(read(one, ""), 2)
            found = asyncio.ensure_future(other.find(first.id))
            for _ in range(100):
                await asyncio.sleep(0)
            assert not found.done()
            async with following(other):
                assert await found == 1
                assert await take(read(other, first.id), 1) == [second]

    run(test)


def test_what_is_being_copied_is_not_yet_what_is_looked_for(
    logs: Callable[[], RedisLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        log = logs()
        rounds = 0

        async def copy() -> None:
            nonlocal rounds
            rounds += 1
            await asyncio.sleep(0.01)
            # The first round was asked for before the event was there.
            if rounds == 2:
                log.keep(Event("5-5", "order", ""))
            log.copied.set()
            log.copied = asyncio.Event()

        monkeypatch.setattr(log, "copy", copy)
        async with following(log):
            assert await log.find("5-5") == 1
            assert await log.find("6-6") == -1

    run(test)


def test_a_foreign_id_is_answered_after_two_rounds_and_costs_redis_nothing(
    logs: Callable[[], RedisLog],
) -> None:
    """Attack: A hundred clients bring a foreign id: they cost Redis nothing."""

    async def test() -> None:
        log = logs()
        async with following(log):
            await log.append("order", "1")
            (kept,) = await take(read(log, ""), 1)
            readers = [read(log, f"foreign {n}") for n in range(100)]
            for taken in await asyncio.gather(*(take(r, 2) for r in readers)):
                assert taken == [RESET, kept]
            assert len(await log.redis.client_list()) <= 3

    run(test)


def test_redis_keeps_so_many_events_and_no_more(logs: Callable[[], RedisLog]) -> None:
    async def test() -> None:
        log = logs()
        async with following(log):
            for number in range(12):
                await log.append("order", f"{number}")
            assert await log.redis.xlen(sse_resumable.KEY) == 5
            late = logs()
            async with following(late):
                events = await take(read(late, ""), 5)
                assert [event.data for event in events] == ["7", "8", "9", "10", "11"]

    run(test)


def test_a_copy_that_fell_behind_what_redis_keeps_says_so(
    logs: Callable[[], RedisLog],
) -> None:
    async def test() -> None:
        one, other = logs(), logs()
        await one.append("order", "0")
        await other.copy()
        events = read(other, "")
        assert [event.data for event in await take(events, 1)] == ["0"]
        for number in range(1, 7):
            await one.append("order", f"{number}")
        async with following(one, other):
            reset, *rest = await take(events, 6)
        assert reset == RESET
        assert [event.data for event in rest] == ["2", "3", "4", "5", "6"]

    run(test)


def test_a_copy_that_is_exactly_up_to_what_redis_keeps_goes_on(
    logs: Callable[[], RedisLog],
) -> None:
    async def test() -> None:
        one, other = logs(), logs()
        await one.append("order", "0")
        await other.copy()
        for number in range(1, 5):
            await one.append("order", f"{number}")
        async with following(one, other):
            events = await take(read(other, ""), 5)
        assert [event.data for event in events] == ["0", "1", "2", "3", "4"]

    run(test)


def test_a_stream_that_was_deleted_resets_the_readers_also_after_its_end(
    logs: Callable[[], RedisLog],
) -> None:
    async def test() -> None:
        log = logs()
        async with following(log):
            await log.append("order", "old")
            await log.append(END, "{}")
            await take(read(log, ""), 2)
            assert log.end
            events = read(log, "")
            await take(events, 1)
            waiting = log.news  # set as soon as the copy has been emptied
            await log.redis.flushall()
            await waiting.wait()
            assert log.end == ""
            assert await take(events, 1) == [RESET]
            await log.append("order", "new")
            assert [event.data for event in await take(events, 1)] == ["new"]

    run(test)


def test_a_stream_that_lost_its_newest_event_is_copied_anew_from_its_oldest(
    logs: Callable[[], RedisLog],
) -> None:
    async def test() -> None:
        log = logs()
        for data in "123":
            await log.append("order", data)
        await log.copy()
        events = read(log, "")
        lost = (await take(events, 3))[-1]
        # As after a crash of Redis, whose last second was not yet on the disk.
        await log.redis.xdel(sse_resumable.KEY, lost.id)
        await log.append("order", "4")
        async with following(log):
            reset, *rest = await take(events, 4)
        assert reset == RESET
        assert [event.data for event in rest] == ["1", "2", "4"]

    run(test)


def test_with_a_connection_a_client_the_hundred_and_first_fails(
    real_redis: Redis,
) -> None:
    async def test() -> None:
        async with redis.asyncio.Redis.from_url(real_redis.url) as client:
            waits = [client.xread({"silent": "$"}, block=4000) for _ in range(100)]
            waiting = [asyncio.ensure_future(wait) for wait in waits]
            for _ in range(40):
                if len(client.connection_pool._in_use_connections) == 100:
                    break
                await asyncio.wait(waiting, timeout=0.1)
            with pytest.raises(MaxConnectionsError):
                await client.ping()
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    run(test)


def test_an_idle_copy_keeps_what_it_has(logs: Callable[[], RedisLog]) -> None:
    async def test() -> None:
        log = logs()
        async with following(log):
            await log.append("order", "1")
            kept = await take(read(log, ""), 1)
            for _ in range(3):
                await log.copied.wait()
            assert not log.copied.is_set()
            await log.redis.config_resetstat()
            loop = asyncio.get_running_loop()
            began = loop.time()
            await asyncio.sleep(0.1)
            # Redis holds each question for 20 ms.
            asked = await log.redis.info("commandstats")
            most = (loop.time() - began) / 0.02 + 2
            # On a machine that is busy it may not have come to a question.
            assert asked.get("cmdstat_xrange", {"calls": 0})["calls"] <= most
            assert list(log.events) == kept
            assert log.total == 1

    run(test)


def test_an_answer_that_is_lost_doubles_no_event(
    logs: Callable[[], RedisLog],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test() -> None:
        log = logs()
        evaluate = log.redis.eval
        lost = 0

        async def lose_two(script: str, count: int, *arguments: str) -> object:
            nonlocal lost
            answer = await evaluate(script, count, *arguments)
            if lost < 2:
                lost += 1
                raise RedisConnectionError("the answer was lost")
            return answer

        monkeypatch.setattr(log.redis, "eval", lose_two)
        async with following(log):
            await log.append("order", "1")
            await log.append("order", "1")
            events = await take(read(log, ""), 2)
            assert lost == 2
            assert await log.redis.xlen(sse_resumable.KEY) == 2
            assert events[0].id != events[1].id
            marks = [key async for key in log.redis.scan_iter("sse_resumable:*")]
            assert len(marks) == 2
            assert all([3500 < await log.redis.ttl(mark) <= 3600 for mark in marks])

    run(test)
    assert caplog.text.count("Redis did not take an event: the answer was lost") == 2


def test_after_the_end_no_process_adds_anything(logs: Callable[[], RedisLog]) -> None:
    async def test() -> None:
        one, other = logs(), logs()
        await one.append("order", "1")
        await one.append(END, "{}")
        # The copy of the other process does not know of the end.
        await other.append("order", "2")
        await other.append(END, "{}")
        async with following(one, other):
            events = [event async for event in read(other, "")]
            assert [event.name for event in events] == ["order", "end"]
            assert await take(read(one, ""), 2) == events

    run(test)


def test_while_redis_is_away_the_log_waits_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sse_resumable, "AGAIN", 0.01)
    monkeypatch.setattr(sse_resumable, "console", logging.getLogger("recipe"))
    monkeypatch.setattr(redis.asyncio.retry.Retry, "call_with_retry", once)
    port = free_port()

    async def test() -> None:
        log = RedisLog(f"redis://{HOST}:{port}/0")
        async with following(log):
            loop = asyncio.get_running_loop()
            began = loop.time()
            adding = asyncio.create_task(log.append("order", "1"))
            said = ("Redis did not answer", "Redis did not take")
            while min(caplog.text.count(each) for each in said) < 3:
                await asyncio.wait([adding], timeout=0.01)
                assert not adding.done()
            # With a pause of 10 ms between two attempts.
            most = (loop.time() - began) / 0.01 + 2
            assert max(caplog.text.count(each) for each in said) <= most
            with run_redis(port=port):
                await adding
                assert [e.data for e in await take(read(log, ""), 1)] == ["1"]

    run(test)


async def once(
    _: object, do: Callable[[], Awaitable[Any]], *__: object, **___: object
) -> object:
    """Try once, so that a test need not wait for the client's own attempts."""
    return await do()


def test_an_attempt_is_made_every_half_second_and_redis_waits_as_long() -> None:
    assert (sse_resumable.AGAIN, sse_resumable.BLOCK) == (0.5, 500)


# The Python client, the stop, and what the page lets its reader break


def test_the_python_client_reads_through_all_that_happens_to_its_connections(
    tmp_path: Path,
) -> None:
    factory = "tests.servers.watched_sse_resumable:cutting"
    with uvicorn("--factory", factory) as server:
        post(server, "/orders/7")
        Reader().follow(server.port, until=4, query="?whole")
        post(server, "/end")
        done = clients.run("sse_resumable.py", server.url, tmp_path)
    lines = done.stdout.splitlines()
    assert lines.pop(0) == "503: connecting again in 2.0 s"
    printed = [line for line in lines if "connecting again in 0.1 s" not in line]
    assert lines != printed
    assert printed == [
        *(f'order {{"id":7,"state":"{state}"}}' for state in STATES),
        "end {}",
    ]
    assert (done.returncode, done.stderr) == (0, "")


def test_with_a_limit_a_server_that_is_stopped_cuts_its_streams_and_says_so_once() -> (
    None
):
    with uvicorn(APP, "--timeout-graceful-shutdown", "1") as server:
        with raw_get(server.port, "/events") as answer:
            answer.chunk()
            server.signal(signal.SIGTERM)
            with suppress(EOFError):
                answer.rest()
            assert server.wait() in (0, -signal.SIGTERM)
        log = server.output()
    assert log.count("ERROR") == 1
    assert "Cancel 1 running task(s), timeout graceful shutdown exceeded" in log
    assert "Traceback" not in log


def test_without_a_limit_a_server_that_is_stopped_waits_for_its_clients() -> None:
    with uvicorn(APP) as server:
        with raw_get(server.port, "/events") as answer:
            answer.chunk()
            server.signal(signal.SIGTERM)
            server.expect("Waiting for connections to close")
            with pytest.raises(AssertionError, match="did not end within"):
                server.wait(0.5)
        assert server.wait() in (0, -signal.SIGTERM)
    assert "Traceback" not in server.output()


def test_the_python_client_says_that_there_may_be_a_gap(tmp_path: Path) -> None:
    port = free_port()
    with ThreadPoolExecutor() as pool:
        with at(port, QUICK, "memory") as server:
            post(server, "/orders/7")
            url = f"http://{HOST}:{port}"
            done = pool.submit(clients.run, "sse_resumable.py", url, tmp_path)
            server.expect("GET /events")
            Reader().follow(port, until=4)
            os.killpg(server.process.pid, signal.SIGKILL)
        with at(port, QUICK, "memory") as server:
            post(server, "/orders/8")
            Reader().follow(port, until=4)
            post(server, "/end")
            lines = done.result(30).stdout.splitlines()
    told = lines.index("What was printed so far may have a gap. The feed begins anew:")
    assert all('"id":7' in line for line in lines[:told] if line.startswith("order"))
    assert lines[told + 1 :] == [
        *(f'order {{"id":8,"state":"{state}"}}' for state in STATES),
        "end {}",
    ]


def test_a_second_ctrl_c_does_not_wait() -> None:
    with uvicorn(APP) as server, raw_get(server.port, "/events") as answer:
        answer.chunk()
        server.signal(signal.SIGINT)
        server.expect("Waiting for connections to close. (CTRL+C to force quit)")
        server.signal(signal.SIGINT)
        server.wait()


def test_break_it_a_log_without_a_name_of_its_own_hides_what_was_missed(
    tmp_path: Path,
) -> None:
    old = "secrets.token_hex(8)  # another one each time the server starts"
    broken = changed(tmp_path, "sse_resumable", old, '"log"')
    for folder, resets, states in [
        (servers.ROOT, 1, orders(8)),
        (broken, 0, [(8, "shipped")]),
    ]:
        reader = Reader()
        with uvicorn(APP, cwd=folder) as server:
            post(server, "/orders/7")
            reader.follow(server.port, until=3)
            assert reader.states() == orders(7)[:3]
        if folder == broken:
            assert reader.last_id == "log-2"
        reader.events.clear()
        with uvicorn(APP, cwd=folder) as server:
            post(server, "/orders/8")
            Reader().follow(server.port, until=4)
            reader.follow(server.port, until=len(states))
        assert (reader.resets, reader.states()) == (resets, states)
