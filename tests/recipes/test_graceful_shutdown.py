"""docs/recipes/graceful_shutdown.md: every claim of the page, proved on the recipe."""

import asyncio
import gc
import json
import signal
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from types import SimpleNamespace

import anyio
import pytest
import sse_starlette
from fastapi.testclient import TestClient

from cookbook.catalog import ROOT
from recipes import graceful_shutdown as recipe
from recipes.graceful_shutdown import (
    BACKSTOP,
    DIGITS,
    LATEST,
    PAUSE,
    SOONEST,
    Order,
    hearing_signals,
    number_of,
    until,
)
from tests.kit import asgi, sse
from tests.kit.asgi import drive, note
from tests.kit.servers import WAIT

PATHS = ("/native", "/framed", "/sse-starlette")
SIGNALS = (signal.SIGTERM, signal.SIGINT)
Tell = Callable[[], None]

every_path = pytest.mark.parametrize("path", PATHS)


@pytest.fixture
def tell(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Tell]]:
    """Give what a signal would call; nothing pauses, and no signal is heard."""
    told: list[Tell] = []

    @contextmanager
    def deaf(tell: Tell) -> Iterator[None]:
        told.append(tell)
        yield
        note("lifespan ends")

    monkeypatch.setattr(recipe, "hearing_signals", deaf)
    monkeypatch.setattr(recipe, "PAUSE", 0)
    yield told
    assert len(told) <= 1


def stopping_after(
    many: int, tell: list[Tell], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let the signal come after so many orders, while the next one is waited for."""

    async def orders_after(number: int) -> AsyncGenerator[Order, None]:
        try:
            for _ in range(many):
                number += 1
                yield Order(id=number, item="tea")
            asyncio.get_running_loop().call_soon(tell[0])
            await asyncio.Event().wait()
        finally:
            note("closed")

    monkeypatch.setattr(recipe, "orders_after", orders_after)


# What a client gets ------------------------------------------------------------------


@every_path
def test_every_stream_ends_with_a_farewell_and_is_closed_before_the_lifespan(
    path: str, tell: list[Tell], monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping_after(3, tell, monkeypatch)
    run = drive(recipe.app, path)
    assert run.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert run.headers["x-accel-buffering"] == "no"
    parsed = sse.parse(run.chunks)
    assert [(event.event, event.id) for event in parsed.events] == [
        ("order", "1"),
        ("order", "2"),
        ("order", "3"),
        # It has no id of its own: the client keeps that of its last order.
        ("farewell", "3"),
    ]
    assert parsed.events[-1].data == "{}"
    assert parsed.retry is not None
    assert SOONEST <= parsed.retry <= LATEST
    # The clean-up runs as soon as the response has ended, not at the garbage collector.
    assert "closed" in run.before("returned")


@every_path
def test_the_exact_bytes_of_an_order_and_of_the_farewell(
    path: str, tell: list[Tell], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "soon", lambda: 1234)
    stopping_after(1, tell, monkeypatch)
    body = drive(recipe.app, path).body
    order, farewell, rest = body.replace(b"\r\n", b"\n").split(b"\n\n")
    assert sorted(order.split(b"\n")) == [
        b'data: {"id":1,"item":"tea"}',
        b"event: order",
        b"id: 1",
    ]
    assert sorted(farewell.split(b"\n")) == [
        b"data: {}",
        b"event: farewell",
        b"retry: 1234",
    ]
    assert rest == b""


@every_path
def test_an_order_is_out_before_the_next_is_made(
    path: str, tell: list[Tell], monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping_after(10**6, tell, monkeypatch)
    made = recipe.orders_after

    async def noted(number: int) -> AsyncGenerator[Order, None]:
        async with aclosing(made(number)) as orders:
            async for order in orders:
                note("order")
                yield order
                await asyncio.sleep(0.001)

    monkeypatch.setattr(recipe, "orders_after", noted)
    run = drive(recipe.app, path, disconnect_at=3)
    assert run.before("chunk 1").count("order") == 1
    assert tell, "nobody was told to stop"
    assert b"farewell" not in run.body


@every_path
@pytest.mark.parametrize("stalls", [False, True])
def test_a_client_that_leaves_ends_the_work_and_raises_nothing(
    path: str, stalls: bool, tell: list[Tell], monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping_after(10**6, tell, monkeypatch)
    made = recipe.orders_after

    async def slower(number: int) -> AsyncGenerator[Order, None]:
        async with aclosing(made(number)) as orders:
            async for order in orders:
                yield order
                await asyncio.sleep(0)

    monkeypatch.setattr(recipe, "orders_after", slower)
    run = drive(recipe.app, path, stall_at=3 if stalls else None, disconnect_at=3)
    assert "closed" in run.before("returned")
    assert run.error is None


@every_path
def test_who_comes_while_the_server_stops_gets_the_farewell_at_once(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def heard(tell: Tell) -> Iterator[None]:
        tell()
        yield

    monkeypatch.setattr(recipe, "hearing_signals", heard)
    run = drive(recipe.app, path, headers={"last-event-id": "7"})
    # Not a 503: EventSource never comes back after one.
    assert run.status == 200
    parsed = sse.parse(run.chunks)
    assert [event.event for event in parsed.events] == ["farewell"]
    assert parsed.retry is not None


def test_the_page_shows_the_end_of_a_stream(
    tell: list[Tell], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "soon", lambda: 1742)
    stopping_after(1, tell, monkeypatch)
    body = drive(recipe.app, "/native", headers={"last-event-id": "6"}).body
    shown = (ROOT / "docs/learn/graceful_shutdown.txt").read_bytes()
    assert body.replace(b'"tea"', b'"tea no. 7"') == shown + b"\n"


def test_a_hundred_clients_are_told_to_come_back_at_different_moments() -> None:
    waits = [recipe.soon() for _ in range(100)]
    assert (SOONEST, LATEST) == (1000, 3000)
    assert all(SOONEST <= wait <= LATEST for wait in waits)
    assert len(set(waits)) > 50


def test_the_waits_reach_from_the_soonest_to_the_latest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def least(_: int) -> int:
        return 0

    def most(limit: int) -> int:
        return limit - 1

    for below, wait in ((least, SOONEST), (most, LATEST)):
        monkeypatch.setattr(recipe, "secrets", SimpleNamespace(randbelow=below))
        assert recipe.soon() == wait


# Coming back -------------------------------------------------------------------------


@every_path
@pytest.mark.parametrize(
    ("sent", "first"), [(None, 1), ("7", 8), ("999", 1000), ("0", 1), ("007", 8)]
)
def test_a_client_that_comes_back_gets_the_orders_after_its_id(
    path: str,
    sent: str | None,
    first: int,
    tell: list[Tell],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stopping_after(3, tell, monkeypatch)
    run = drive(recipe.app, path, headers={"last-event-id": sent} if sent else {})
    orders = [e for e in sse.parse(run.chunks).events if e.event == "order"]
    assert [json.loads(order.data)["id"] for order in orders] == [
        first,
        first + 1,
        first + 2,
    ]
    assert [order.id for order in orders] == [str(first + n) for n in range(3)]


@pytest.mark.parametrize(
    ("query", "sent", "first"),
    [("?after=7", None, 8), ("?after=7", "9", 10), ("?after=", "", 1)],
)
def test_a_page_that_makes_a_new_source_names_its_order_in_the_query(
    query: str,
    sent: str | None,
    first: int,
    tell: list[Tell],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stopping_after(1, tell, monkeypatch)
    headers = {"last-event-id": sent} if sent is not None else {}
    run = drive(recipe.app, f"/native{query}", headers=headers)
    assert sse.parse(run.chunks).last_event_id == str(first)


def test_every_process_knows_the_same_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "PAUSE", 0)

    async def some(after: int) -> list[Order]:
        orders = recipe.orders_after(after)
        async with aclosing(orders):
            return [await anext(orders) for _ in range(3)]

    assert asyncio.run(some(0))[1:] == asyncio.run(some(1))[:2]
    assert asyncio.run(some(6))[0] == Order(id=7, item="tea no. 7")


def test_an_order_comes_each_half_second(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(recipe, "asyncio", SimpleNamespace(sleep=pause))

    async def two() -> None:
        orders = recipe.orders_after(0)
        async with aclosing(orders):
            assert [(await anext(orders)).id, (await anext(orders)).id] == [1, 2]

    asyncio.run(two())
    assert pauses == [PAUSE] == [0.5]


STRANGE = {
    "empty": "",
    "word": "abc",
    "negative": "-1",
    "sign": "+7",
    "point": "7.5",
    "underscore": "1_0",
    "space": "7 8",
    "Arabic": "٣",
    "superscript": "²",
    "sixteen digits": "9" * (DIGITS + 1),
    "8 KB": "7" * 8192,
}


@pytest.mark.parametrize("text", STRANGE.values(), ids=STRANGE.keys())
def test_attack_an_id_that_nobody_gave_is_taken_for_none(text: str) -> None:
    """A client makes up a Last-Event-ID: it gets the feed from its beginning."""
    assert number_of(text) == 0


def test_an_id_may_have_fifteen_digits() -> None:
    assert DIGITS == 15
    assert number_of("9" * 15) == 10**15 - 1


# How the streams hear of it ----------------------------------------------------------


async def numbers(last: int) -> AsyncGenerator[int, None]:
    """Count, and note the end."""
    try:
        for number in range(1, last + 1):
            await asyncio.sleep(0)
            yield number
    finally:
        note("closed")


def test_until_gives_everything_if_nobody_stops_it() -> None:
    async def look() -> list[int]:
        items = numbers(5)
        async with aclosing(items), aclosing(until(asyncio.Event(), items)) as feed:
            return [number async for number in feed]

    assert asyncio.run(look()) == [1, 2, 3, 4, 5]


def test_until_ends_during_a_wait_and_leaves_no_task() -> None:
    async def look() -> None:
        stopping = asyncio.Event()

        async def silent() -> AsyncGenerator[int, None]:
            yield 1
            await asyncio.Event().wait()

        items = silent()
        before = asyncio.all_tasks()
        async with aclosing(items), aclosing(until(stopping, items)) as feed:
            assert await anext(feed) == 1
            upcoming = asyncio.ensure_future(anext(feed, "the end"))
            await asyncio.sleep(0)
            assert not upcoming.done()
            stopping.set()
            assert await asyncio.wait_for(upcoming, WAIT) == "the end"
            assert asyncio.all_tasks() == before
        # The wait for the next item was ended, so the source can be closed.
        with pytest.raises(StopAsyncIteration):
            await anext(items)

    asyncio.run(look())


def test_until_passes_on_what_its_source_raises_and_leaves_no_task() -> None:
    async def look() -> None:
        async def broken() -> AsyncGenerator[int, None]:
            yield 1
            raise ValueError("Order 2 cannot be read")

        items = broken()
        before = asyncio.all_tasks()
        async with aclosing(items), aclosing(until(asyncio.Event(), items)) as feed:
            assert await anext(feed) == 1
            with pytest.raises(ValueError, match="Order 2"):
                await anext(feed)
            assert asyncio.all_tasks() == before

    asyncio.run(look())


def test_an_item_that_has_come_before_the_signal_is_not_lost() -> None:
    async def look() -> list[int]:
        stopping = asyncio.Event()

        async def both_at_once() -> AsyncGenerator[int, None]:
            await asyncio.sleep(0)
            stopping.set()
            yield 1
            yield 2

        items = both_at_once()
        async with aclosing(items), aclosing(until(stopping, items)) as feed:
            return [number async for number in feed]

    assert asyncio.run(look()) == [1]


def test_a_source_that_takes_its_time_to_clean_up_gets_it_when_the_client_leaves() -> (
    None
):
    closed: list[str] = []

    async def slow_to_close() -> AsyncGenerator[int, None]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            for _ in range(3):
                await asyncio.sleep(0)
            closed.append("source")

    async def look() -> None:
        items = slow_to_close()
        # Starlette leaves a stream in this way when its client has gone.
        with anyio.CancelScope() as scope:
            async with aclosing(items), aclosing(until(asyncio.Event(), items)) as feed:
                async for _ in feed:
                    asyncio.get_running_loop().call_soon(scope.cancel)

    asyncio.run(look())
    assert closed == ["source"]


def test_until_can_be_closed_in_mid_stream_and_then_its_source() -> None:
    async def look() -> None:
        before = asyncio.all_tasks()
        items = numbers(5)
        async with aclosing(items), aclosing(until(asyncio.Event(), items)) as feed:
            assert await anext(feed) == 1
        assert asyncio.all_tasks() == before

    gc.disable()
    try:
        asyncio.run(look())
    finally:
        gc.enable()


@pytest.fixture
def handlers() -> Iterator[None]:
    """Put the handlers of the test's process back in the end."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
def test_a_signal_reaches_the_streams_and_the_server() -> None:
    heard: list[object] = []

    def server(number: int, _: object) -> None:
        heard.append(signal.Signals(number))

    async def look() -> None:
        told = asyncio.Event()
        with hearing_signals(told.set):
            assert signal.getsignal(signal.SIGTERM) is not server
            for number in (*SIGNALS, signal.SIGTERM):
                told.clear()
                signal.raise_signal(number)
                # The loop calls it, when it is ready: never in the midst of something.
                assert not told.is_set()
                await asyncio.wait_for(told.wait(), WAIT)
        for number in SIGNALS:
            assert signal.getsignal(number) is server

    for number in SIGNALS:
        signal.signal(number, server)
    asyncio.run(look())
    assert heard == [signal.SIGTERM, signal.SIGINT, signal.SIGTERM]


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("handler", [signal.SIG_DFL, signal.SIG_IGN])
def test_a_server_that_handles_no_signals_is_left_alone(
    handler: signal.Handlers,
) -> None:
    for number in SIGNALS:
        signal.signal(number, handler)

    async def look() -> None:
        # The runner of this test has put a handler of its own there.
        signal.signal(signal.SIGINT, handler)
        with hearing_signals(lambda: None):
            assert [signal.getsignal(number) for number in SIGNALS] == [handler] * 2
        assert [signal.getsignal(number) for number in SIGNALS] == [handler] * 2

    asyncio.run(look())


@pytest.mark.usefixtures("handlers")
def test_in_another_thread_signals_are_left_alone(tell: list[Tell]) -> None:
    def own(*_: object) -> None:
        """Stand for the handler of a server."""

    tell.append(lambda: None)

    async def look() -> None:
        with hearing_signals(lambda: None):
            assert signal.getsignal(signal.SIGTERM) is own

    signal.signal(signal.SIGTERM, own)
    failed: list[BaseException] = []

    def in_thread() -> None:
        try:
            asyncio.run(look())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join(WAIT)
    assert not failed


def test_the_test_client_of_fastapi_can_run_it(tell: list[Tell]) -> None:
    with TestClient(recipe.app) as client:
        threading.Timer(0, tell[0]).start()
        with client.stream("GET", "/native") as response:
            assert any("farewell" in line for line in response.iter_lines())


def test_sse_starlette_leaves_the_end_to_the_recipe(
    tell: list[Tell], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[object] = []
    made = sse_starlette.EventSourceResponse.__init__

    def keep(self: object, content: object, **options: object) -> None:
        given.append(options)
        made(self, content, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(sse_starlette.EventSourceResponse, "__init__", keep)
    stopping_after(1, tell, monkeypatch)
    drive(recipe.app, "/sse-starlette")
    assert given == [{"shutdown_grace_period": BACKSTOP}]
    assert BACKSTOP == 3


def test_the_driver_journals_the_lifespan(
    tell: list[Tell], monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping_after(1, tell, monkeypatch)
    drive(recipe.app, "/native")
    journal = list(asgi._journal)
    assert journal.index("closed") < journal.index("lifespan ends")
