"""docs/learn/sync_or_async.md: who waits, and what a trip to a thread costs."""

import asyncio
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial

import anyio.to_thread
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool

from cookbook.background import serving
from docs.learn import blocking_in_batches
from recipes import plain_text
from tests.kit import costs
from tests.kit.asgi import drive, note
from tests.kit.servers import WAIT, raw_get

Trips = Callable[[FastAPI, str], int]


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> Trips:
    """Give a function that counts the trips to a thread of one request."""
    original = anyio.to_thread.run_sync
    made: list[object] = []

    async def counted(function: Callable[..., object], *rest: object) -> object:
        made.append(function)
        return await original(function, *rest)

    def count(app: FastAPI, target: str) -> int:
        made.clear()
        assert drive(app, target).status == 200
        return len(made)

    monkeypatch.setattr(anyio.to_thread, "run_sync", counted)
    monkeypatch.setattr(plain_text, "PAUSE", 0)
    return count


def test_a_plain_generator_goes_to_a_thread_for_each_yield_and_once_for_its_end(
    trips: Trips,
) -> None:
    # The endpoint is a plain function too, which is one trip more.
    assert trips(plain_text.app, "/sync/1") == 1 + 5 + 1
    assert trips(plain_text.app, "/async/1") == 0
    assert trips(plain_text.app, "/route/1") == 0


@pytest.mark.parametrize("path", ["rows", "batches", "awaited"])
def test_the_three_ways_send_the_same_bytes(path: str) -> None:
    run = drive(blocking_in_batches.app, f"/{path}?rows=2500")
    assert run.body == b"".join(b"order %d\n" % n for n in range(1, 2501))
    assert len(run.chunks) == (2500 if path == "rows" else 3)


def test_curl_reads_the_batches() -> None:
    with serving(blocking_in_batches.app) as url:
        curl = ["curl", "-sN", f"{url}/batches?rows=5000"]
        got = subprocess.run(curl, check=True, capture_output=True).stdout
    assert got == b"".join(b"order %d\n" % n for n in range(1, 5001))


def test_a_batch_is_one_trip(trips: Trips) -> None:
    app = blocking_in_batches.app
    assert trips(app, "/rows?rows=5000") == 5001
    # Five batches, and the empty one that says that there are no more.
    assert trips(app, "/batches?rows=5000") == 6
    assert trips(app, "/awaited?rows=5000") == 6


def test_a_def_endpoint_that_yields_runs_in_a_thread_and_an_async_one_does_not(
    trips: Trips,
) -> None:
    app = FastAPI()
    main = threading.current_thread()

    @app.get("/plain", response_class=StreamingResponse)
    def plain() -> Iterator[str]:
        yield f"on the loop: {threading.current_thread() is main}"

    @app.get("/async", response_class=StreamingResponse)
    async def asynchronous() -> AsyncIterator[str]:
        yield f"on the loop: {threading.current_thread() is main}"

    assert drive(app, "/plain").body == b"on the loop: False"
    assert drive(app, "/async").body == b"on the loop: True"
    assert trips(app, "/plain") > 0
    assert trips(app, "/async") == 0


def test_when_forty_steps_wait_the_next_one_and_a_def_endpoint_wait_too() -> None:
    begun: list[str] = []
    go = threading.Event()
    forty = threading.Semaphore(0)

    def waits(name: str) -> Iterator[str]:
        begun.append(name)
        forty.release()
        go.wait(WAIT)
        yield name

    def plain_function() -> None:
        begun.append("function")

    async def all_of_them() -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(40):
                tasks.create_task(first(waits("step")))
            while begun.count("step") < 40:
                await asyncio.to_thread(forty.acquire, timeout=WAIT)
            late = tasks.create_task(first(waits("late step")))
            function = tasks.create_task(run_in_threadpool(plain_function))
            for _ in range(100):  # turns of the loop; both would have begun
                await asyncio.sleep(0)
            assert begun == ["step"] * 40
            go.set()
            await asyncio.gather(late, function)

    async def first(lines: Iterator[str]) -> None:
        await anext(aiter(iterate_in_threadpool(lines)))

    asyncio.run(all_of_them())
    assert set(begun) == {"step", "late step", "function"}


def test_a_thousand_clients_wait_in_an_async_generator_without_a_thread() -> None:
    async def waits(gate: asyncio.Event) -> AsyncIterator[str]:
        await gate.wait()
        yield "one"

    async def all_of_them() -> int:
        gate = asyncio.Event()
        waiting = [asyncio.ensure_future(anext(waits(gate))) for _ in range(1000)]
        await asyncio.sleep(0)
        threads = threading.active_count()
        gate.set()
        await asyncio.gather(*waiting)
        return threads

    before = threading.active_count()
    assert asyncio.run(all_of_them()) <= before


def test_a_blocking_step_runs_to_its_end_after_the_client_has_left() -> None:
    app = FastAPI()
    begun, go, ended = threading.Event(), threading.Event(), threading.Event()

    def feed() -> Iterator[str]:
        yield "one\n"
        begun.set()
        go.wait(WAIT)
        ended.set()
        yield "two\n"
        note("a third step")

    @app.get("/")
    async def stream() -> StreamingResponse:
        return StreamingResponse(feed())

    with serving(app) as url:
        with raw_get(int(url.rpartition(":")[2]), "/") as answer:
            assert answer.chunk() == b"one\n"
            assert begun.wait(WAIT)
        assert not ended.is_set()
        go.set()
        assert ended.wait(WAIT)


def test_the_event_loop_gets_its_turn_while_a_thread_computes() -> None:
    app = FastAPI()
    asked = threading.Event()

    def numbers() -> Iterator[str]:
        yield "one\n"
        end = time.monotonic() + WAIT
        while not asked.is_set() and time.monotonic() < end:
            pass  # Work that never waits.
        yield "asked\n" if asked.is_set() else "alone\n"

    @app.get("/numbers")
    async def stream() -> StreamingResponse:
        return StreamingResponse(numbers())

    @app.get("/ask")
    async def ask() -> None:
        asked.set()

    run = drive(app, "/numbers", also="/ask")
    assert run.chunks == [b"one\n", b"asked\n"]


def test_the_tables_are_made_of_the_figures_of_the_benchmarks() -> None:
    assert costs.TABLES.read_text("utf-8") == costs.tables(), "run make docs"


@pytest.mark.parametrize(
    ("slug", "cheap", "dear", "times"),
    [
        ("plain_text", "Async generator", "Plain generator", 5),
        ("csv_export", "Async generator, a row a yield", "Plain generator, a row", 5),
        ("csv_export", "The recipe: 64 KiB a chunk", "Async generator, a row", 2),
    ],
)
def test_the_figures_say_what_the_page_says(
    slug: str, cheap: str, dear: str, times: int
) -> None:
    found = costs.microseconds(slug)
    named = partial(next, (v for k, v in found.items() if k.startswith(dear)))
    assert named() > times * found[cheap]
