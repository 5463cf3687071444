"""docs/recipes/sse_broadcast.md: its claims about workers, Redis and real clients."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing
from http.client import HTTPConnection
from itertools import count
from pathlib import Path

import pytest
import redis as library

from recipes import sse_broadcast
from recipes.sse_broadcast import KEPT, LATEST, STREAM, Channel, Feed
from tests.kit import clients, servers
from tests.kit.changed import changed
from tests.kit.redis import Redis, redis
from tests.kit.servers import (
    Answer,
    Server,
    free_port,
    granian,
    hypercorn,
    raw_get,
    until,
    uvicorn,
)
from tests.kit.sse import Event, parse

pytestmark = pytest.mark.timeout(2 * servers.START + 20)

APP = "recipes.sse_broadcast:app"
WATCHED = "tests.servers.watched_sse_broadcast:app"
EVERYWHERE = [uvicorn, hypercorn, granian]
Start = Callable[..., AbstractContextManager[Server]]

every_server = pytest.mark.parametrize("start", EVERYWHERE, ids=lambda f: f.__name__)


def tell(server: Server, number: int, state: str = "paid") -> int:
    """Tell one order; give the status."""
    connection = HTTPConnection(servers.HOST, server.port, timeout=10)
    with closing(connection):
        connection.request("POST", f"/orders/{number}/{state}")
        return connection.getresponse().status


def counts(server: Server) -> dict[str, int]:
    """Ask the watched recipe for its counts."""
    connection = HTTPConnection(servers.HOST, server.port, timeout=10)
    with closing(connection):
        connection.request("GET", "/counts")
        found: dict[str, int] = json.load(connection.getresponse())
        return found


def order(number: int, state: str = "paid") -> bytes:
    return b'event: order\ndata: {"id":%d,"state":"%s"}\n\n' % (number, state.encode())


def read(answer: Answer, wanted: bytes) -> bytes:
    """Read chunks until one ends as wanted; pings do not count."""
    got = b""
    while not got.endswith(wanted):
        got += answer.chunk()
    return got.replace(b": ping\n\n", b"")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with uvicorn(WATCHED) as running:
        yield running


@pytest.fixture(scope="module")
def shared() -> Iterator[Redis]:
    with redis() as running:
        yield running


@pytest.fixture(scope="module")
def pair(shared: Redis) -> Iterator[list[Server]]:
    """Two workers that share a Redis; each can be asked by its own port."""
    env = {"REDIS_URL": shared.url}
    with uvicorn(WATCHED, env=env) as one, uvicorn(WATCHED, env=env) as other:
        yield [one, other]


numbers = count(1000)  # of orders, so that no test hears those of another


# Many listeners of one process.


def test_a_hundred_listeners_hear_each_order_once(server: Server) -> None:
    told = [next(numbers) for _ in range(20)]
    with ExitStack() as stack:
        listening = [
            stack.enter_context(raw_get(server.port, "/events")) for _ in range(100)
        ]
        for number in told:
            assert tell(server, number) == 202
        wanted = b"retry: 2000\n\n" + b"".join(map(order, told))
        for answer in listening:
            assert read(answer, order(told[-1])) == wanted


def test_an_event_is_a_chunk_on_the_wire(server: Server) -> None:
    number = next(numbers)
    with raw_get(server.port, "/events") as answer:
        assert answer.chunk() == b"retry: 2000\n\n"
        tell(server, number)
        assert answer.chunk() == order(number)


def test_200_clients_that_vanish_leave_nothing_behind() -> None:
    with uvicorn(WATCHED) as server:
        before = counts(server)
        for _ in range(200):
            with raw_get(server.port, "/events") as answer:
                answer.abort()
        until(
            lambda: (
                counts(server)["asleep"] == 0
                and counts(server)["tasks"] == before["tasks"]
            ),
            f"{counts(server)}, at first {before}",
        )
        assert "Traceback" not in server.output()
        assert "ERROR" not in server.output()


PADDING = 64 * 1024  # bytes
BEHIND = 400  # orders: more than a connection's buffers and the feed can hold


@pytest.mark.parametrize("ending", ["reads", "resets"])
def test_one_that_does_not_read_costs_the_others_nothing(ending: str) -> None:
    env = {"PADDING": str(PADDING)}
    with uvicorn(WATCHED, env=env) as server, ExitStack() as stack:
        stalled = [
            stack.enter_context(raw_get(server.port, "/events")) for _ in range(3)
        ]
        with raw_get(server.port, "/events") as reader:
            before = counts(server)
            for number in range(1, BEHIND + 1):
                assert tell(server, number) == 202
                assert read(reader, order(number)).endswith(order(number))
            after = counts(server)
            # Only the reader waits for more: the others have not taken what is there.
            assert after["asleep"] == 1
            # 400 events of 64 KiB were told to each; what is kept is kept once.
            assert after["memory"] - before["memory"] < 2 * LATEST * PADDING
            if ending == "resets":
                for answer in stalled:
                    answer.abort()
                # At first four clients, each with its tasks; now one.
                until(
                    lambda: counts(server)["tasks"] < before["tasks"] - 2,
                    "their tasks go on",
                )
            else:
                for answer in stalled:
                    heard = parse([read(answer, order(BEHIND))]).events
                    gap = next(n for n, e in enumerate(heard) if e.event == "missed")
                    missed = json.loads(heard[gap].data)["events"]
                    assert missed + len(heard) - 1 == BEHIND
                    assert len(heard) - gap - 1 == LATEST
                    ids = [json.loads(e.data)["id"] for e in heard if e.event[0] == "o"]
                    assert ids == [*range(1, gap + 1), *range(BEHIND - 99, BEHIND + 1)]
        assert "Traceback" not in server.output()


# Other servers.


@every_server
def test_everywhere_an_event_arrives_before_the_next_is_made(start: Start) -> None:
    with start(WATCHED) as server, ExitStack() as stack:
        listening = [
            stack.enter_context(raw_get(server.port, "/events")) for _ in range(10)
        ]
        for answer in listening:
            assert answer.chunk() == b"retry: 2000\n\n"
        for number in range(1, 6):
            assert tell(server, number) == 202
            for answer in listening:
                assert read(answer, order(number)) == order(number)


@every_server
def test_everywhere_a_client_that_leaves_is_forgotten(start: Start) -> None:
    with start(WATCHED) as server:
        for _ in range(20):
            with raw_get(server.port, "/events") as answer:
                answer.chunk()
                answer.abort()
        until(lambda: counts(server)["asleep"] == 0, "they are still listening")
        assert "Traceback" not in server.output()


# Many workers.


def test_without_redis_a_listener_hears_only_its_own_worker() -> None:
    with (
        uvicorn(WATCHED) as one,
        uvicorn(WATCHED) as other,
        raw_get(one.port, "/events") as answer,
    ):
        assert tell(other, 1) == 202
        assert tell(one, 2) == 202
        assert read(answer, order(2)) == b"retry: 2000\n\n" + order(2)


def test_with_redis_all_listeners_hear_each_order_once(pair: list[Server]) -> None:
    told = [next(numbers) for _ in range(20)]
    with ExitStack() as stack:
        listening = [
            stack.enter_context(raw_get(server.port, "/events"))
            for server in pair
            for _ in range(10)
        ]
        for number in told:
            assert tell(pair[number % 2], number) == 202
        last = next(numbers)
        assert tell(pair[0], last) == 202
        wanted = b"retry: 2000\n\n" + b"".join(map(order, [*told, last]))
        for answer in listening:
            assert read(answer, order(last)) == wanted


def test_so_it_is_with_two_workers_of_one_uvicorn(shared: Redis) -> None:
    told = [next(numbers) for _ in range(20)]
    env = {"REDIS_URL": shared.url}
    with uvicorn(APP, "--workers", "2", env=env) as server, ExitStack() as stack:
        listening = [
            stack.enter_context(raw_get(server.port, "/events")) for _ in range(30)
        ]
        for number in told:
            assert tell(server, number) == 202
        wanted = b"retry: 2000\n\n" + b"".join(map(order, told))
        for answer in listening:
            assert read(answer, order(told[-1])) == wanted


@pytest.mark.parametrize("with_redis", [True, False])
def test_with_redis_no_worker_plays_the_shop(
    shared: Redis, with_redis: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", shared.url if with_redis else "")
    opened: list[Feed] = []

    async def shop(_: Channel, feed: Feed) -> None:
        opened.append(feed)

    async def start() -> None:
        async with sse_broadcast.lifespan(sse_broadcast.app):
            await asyncio.sleep(0)

    monkeypatch.setattr(sse_broadcast, "shop", shop)
    asyncio.run(start())
    assert len(opened) == (0 if with_redis else 1)


def test_a_worker_that_starts_later_hears_nothing_from_before(
    shared: Redis, pair: list[Server]
) -> None:
    old, new = next(numbers), next(numbers)
    with raw_get(pair[0].port, "/events") as answer:
        tell(pair[0], old)
        read(answer, order(old))
        with (
            uvicorn(WATCHED, env={"REDIS_URL": shared.url}) as late,
            raw_get(late.port, "/events") as later,
        ):
            tell(pair[1], new)
            assert read(later, order(new)) == b"retry: 2000\n\n" + order(new)


@pytest.mark.timeout(4 * servers.START)
def test_an_order_comes_once_even_if_redis_restarts(tmp_path: Path) -> None:
    port = free_port()
    with ExitStack() as stack:
        with redis(port=port, folder=tmp_path, keep=True) as store:
            env = {"REDIS_URL": store.url}
            one = stack.enter_context(uvicorn(WATCHED, env=env))
            other = stack.enter_context(uvicorn(WATCHED, env=env))
            near = stack.enter_context(raw_get(one.port, "/events"))
            far = stack.enter_context(raw_get(other.port, "/events"))
            assert tell(one, 1) == 202
            assert read(near, order(1)) == read(far, order(1))
        # It is gone, and the listeners are still there.
        assert tell(one, 2) == 503
        one.expect("No orders from Redis: ")
        with redis(port=port, folder=tmp_path, keep=True):
            until(lambda: tell(one, 3) == 202, "no order can be told")
            assert read(near, order(3)) == order(3)
            assert read(far, order(3)) == order(3)
            assert tell(other, 4) == 202
            assert read(near, order(4)) == order(4)
            assert read(far, order(4)) == order(4)
        for server in (one, other):
            assert "Traceback" not in server.output()


def test_redis_keeps_about_a_thousand_orders() -> None:
    assert KEPT == 1000
    with redis() as store, library.Redis.from_url(store.url) as client:
        pipeline = client.pipeline()
        for n in range(2 * KEPT):
            pipeline.xadd(STREAM, {"order": str(n)})
        pipeline.execute()
        with uvicorn(WATCHED, env={"REDIS_URL": store.url}) as server:
            assert tell(server, 1) == 202
        # Redis drops them a hundred at a time.
        assert KEPT <= client.xlen(STREAM) <= KEPT + 100


def test_a_worker_that_finds_no_redis_does_not_start() -> None:
    env = {"REDIS_URL": f"redis://127.0.0.1:{free_port()}"}
    with (
        pytest.raises(AssertionError, match="Application startup failed"),
        uvicorn(APP, env=env),
    ):
        pass


# What the page shows.


def test_the_python_client_prints_what_it_hears_and_connects_again(
    tmp_path: Path,
) -> None:
    env = {"SHOP": "1"}
    port = free_port()
    argv = [sys.executable, "-u", "-m", "uvicorn", WATCHED, "--port", str(port)]
    client = clients.copied(
        "sse_broadcast.py", f"http://{servers.HOST}:{port}", tmp_path
    )
    with ExitStack() as stack:
        with servers.serve(argv, port, env=env, warm=True) as server:
            process = stack.enter_context(
                subprocess.Popen([sys.executable, client], stdout=subprocess.PIPE)
            )
            stack.callback(process.kill)
            assert process.stdout is not None
            lines = [process.stdout.readline().decode() for _ in range(2)]
            server.signal(signal.SIGKILL)
        assert lines == ["order 1 is placed\n", "order 1 is paid\n"]
        lost = b"lost; what happens meanwhile is not sent later\n"
        assert process.stdout.readline() == lost
        with servers.serve(argv, port, env=env, warm=True):
            while (line := process.stdout.readline()) == lost:
                pass
            assert line == b"order 1 is placed\n"


def test_the_python_client_checks_the_status_first(tmp_path: Path) -> None:
    # This server knows no /events.
    with uvicorn("recipes.plain_text:app") as server:
        done = clients.run("sse_broadcast.py", server.url, tmp_path)
    assert done.stdout == ""
    assert "404 Not Found" in done.stderr
    assert done.returncode == 1


def test_break_it_a_feed_that_keeps_nothing_tells_only_of_gaps(
    tmp_path: Path,
) -> None:
    # Before: a listener gets the orders of the shop.
    with uvicorn(APP) as server, raw_get(server.port, "/events") as answer:
        assert read(answer, order(1)).endswith(order(1, "placed") + order(1))
    # The change that the page tells its reader to make, and what it says comes of it.
    folder = changed(tmp_path, "sse_broadcast", "LATEST = 100", "LATEST = 0")
    with uvicorn(APP, cwd=folder) as server, raw_get(server.port, "/events") as answer:
        gap = b'event: missed\ndata: {"events":1}\n\n'
        assert read(answer, gap + gap) == b"retry: 2000\n\n" + gap + gap


def test_parsed_as_a_browser_does_a_gap_is_an_event_like_others() -> None:
    gap = b'event: missed\ndata: {"events":4}\n\n'
    assert parse([gap]).events == [Event("missed", '{"events":4}', "")]
