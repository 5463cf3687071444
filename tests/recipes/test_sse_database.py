"""docs/recipes/sse_database.md: every claim the page makes, proved on SQLite.

tests/servers/test_sse_database.py proves them on PostgreSQL, and with real sockets.
"""

import asyncio
import gc
import json
import logging
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, closing
from pathlib import Path
from typing import Any, cast
from unittest import mock

import anyio
import pytest
import sqlalchemy as sql
from fastapi.testclient import TestClient
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from recipes import sse_database as recipe
from recipes.sse_database import Shop, app, events, lifespan
from tests.kit import sse
from tests.kit.asgi import WAIT, Run, drive

PAGE = 20  # rows, so that the tests are quick
ROWS = 2 * PAGE + 10  # two whole pages and a short one
END = ("done", f'{{"rows": {ROWS}}}', "done")
STATES = ("placed", "paid", "packed", "shipped")
ROUTES = ("/changes", "/feed")
HELLO = b": changes of orders\nretry: 2000\n\n"
REAL = {name: vars(recipe)[name] for name in ("PAGE", "ROWS", "POLL", "PATIENCE")}

every_route = pytest.mark.parametrize("route", ROUTES)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a database that the recipe has made on first use."""
    made = tmp_path_factory.mktemp("database") / "changes.sqlite"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", f"sqlite+aiosqlite:///{made}")
        patch.setattr(recipe, "ROWS", ROWS)
        drive(app, "/openapi.json")
    return made


@pytest.fixture(autouse=True)
def file(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test a copy of it, short pages, and a watcher that looks often."""
    own = tmp_path / "changes.sqlite"
    own.write_bytes(filled.read_bytes())
    monkeypatch.setenv("DATABASE_URL", f"sqlite+aiosqlite:///{own}")
    monkeypatch.setattr(recipe, "PAGE", PAGE)
    monkeypatch.setattr(recipe, "POLL", {"sqlite": 0.01})
    return own


def run_sql(file: Path, statement: str) -> list[Any]:
    """Run a statement as another program would."""
    with closing(sqlite3.connect(file, timeout=5)) as connection, connection:
        return connection.execute(statement).fetchall()


def add(file: Path, order_id: int = 7, state: str = "paid") -> None:
    """Write a change as another program would."""
    run_sql(
        file,
        f"INSERT INTO changes (order_id, state) VALUES ({order_id}, '{state}')",  # noqa: S608
    )


def event(number: int) -> tuple[str, str, str]:
    """Say which event row `number` of the sample becomes."""
    order_id, state = (number - 1) // 4 + 1, STATES[(number - 1) % 4]
    data = f'{{"id":{number},"order_id":{order_id},"state":"{state}"}}'
    return ("change", data, str(number))


def found(run: Run) -> list[tuple[str, str, str]]:
    assert run.status == 200
    events = sse.parse(run.chunks).events
    return [(one.event, one.data, one.id) for one in events]


def resumed(path: str, seen: str) -> list[tuple[str, str, str]]:
    return found(drive(app, path, headers={"last-event-id": seen}))


def within(test: Callable[[Shop], Awaitable[None]]) -> None:
    """Run an asynchronous test inside the recipe's lifespan, `WAIT` seconds at most."""

    async def limited() -> None:
        async with asyncio.timeout(WAIT), lifespan(app) as state:
            await test(state["shop"])

    asyncio.run(limited())


@asynccontextmanager
async def following(shop: Shop, after: int = 0, seen: str = "") -> AsyncIterator[Any]:
    """Give a feed from which `next_ids` reads."""
    async with aclosing(cast(Any, events(shop, after, recipe.ENDLESS, seen))) as feed:
        hello = await anext(feed)
        assert hello.retry == 2000
        yield feed


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for something that sends no notice."""
    while not is_so():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


async def next_ids(feed: AsyncIterator[Any], how_many: int) -> list[int]:
    return [int((await anext(feed)).id) for _ in range(how_many)]


# Rows as events


def test_every_row_is_a_typed_event_and_the_last_event_is_their_count() -> None:
    run = drive(app, "/changes")
    assert found(run) == [*map(event, range(1, ROWS + 1)), END]
    change = recipe.Change.model_validate_json(found(run)[4][1])
    assert change == recipe.Change(id=5, order_id=2, state="placed")


def test_these_are_the_bytes() -> None:
    run = drive(app, "/changes?until=1")
    assert run.chunks == [
        HELLO,
        b'event: change\ndata: {"id":1,"order_id":1,"state":"placed"}\nid: 1\n\n',
        b'event: done\ndata: {"rows": 1}\nid: done\n\n',
    ]
    assert run.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert run.headers["x-accel-buffering"] == "no"


@pytest.mark.parametrize(
    ("query", "first", "last"),
    [
        ("until=3", 1, 3),
        ("after=10&until=12", 11, 12),
        (f"after={ROWS}", 1, 0),
        ("until=0", 1, 0),
        (f"until={2**63 - 2}", 1, ROWS),
        (f"after={2**63 - 2}", 1, 0),
        (f"until={PAGE}", 1, PAGE),
        (f"until={2 * PAGE}", 1, 2 * PAGE),
    ],
)
def test_an_export_is_the_rows_behind_one_id_up_to_another(
    query: str, first: int, last: int
) -> None:
    *rows, end = found(drive(app, f"/changes?{query}"))
    assert rows == [event(number) for number in range(first, last + 1)]
    assert end == ("done", f'{{"rows": {len(rows)}}}', "done")


@pytest.mark.parametrize(
    "query", ["after=-1", "after=x", "until=-1", f"until={2**63 - 1}", f"after={2**64}"]
)
def test_an_address_that_makes_no_sense_is_refused(query: str) -> None:
    """Attack: An id that is negative, or too large for the database: 422."""
    assert drive(app, f"/changes?{query}").status == 422


def test_the_first_event_is_out_before_the_second_page_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[int] = []
    real = Shop.read

    async def noted(shop: Shop, query: Any) -> list[Any]:  # noqa: ANN401
        read.append(len(read))
        return await real(shop, query)

    monkeypatch.setattr(Shop, "read", noted)
    # Four events are on their way, and the producer holds a fifth.
    drive(app, "/changes", stall_at=2, disconnect_at=2)
    assert len(read) == 1


# Resume


def test_a_connection_cut_after_any_event_is_resumed_without_gap_or_double() -> None:
    with TestClient(app) as client:

        def read(**headers: str) -> list[sse.Event]:
            return sse.parse([client.get("/changes", headers=headers).content]).events

        whole = read()
        assert len(whole) == ROWS + 1
        for cut in range(1, ROWS + 1):
            rest = read(**{"Last-Event-ID": whole[cut - 1].id})
            # The end counts the rows of the whole export, not of this connection.
            assert whole[:cut] + rest == whole


def test_a_resumed_export_ends_where_the_first_would_have_ended() -> None:
    rest = resumed("/changes?after=5&until=9", "7")
    assert rest == [event(8), event(9), ("done", '{"rows": 4}', "done")]
    assert resumed("/changes?after=5&until=9", "9") == rest[2:]


@every_route
def test_who_has_seen_the_end_is_told_to_stay_away(route: str) -> None:
    run = drive(app, route, headers={"last-event-id": "done"})
    assert (run.status, run.body) == (204, b"")


HOSTILE = {
    "unknown": str(ROWS + 1),
    "zero": "0",
    "negative": "-1",
    "underscore": "5_00",
    "plus": "+5",
    "leading zero": "007",
    "spaces": "5 5",
    "line end": "5\x0b",
    "largest": str(2**63 - 1),
    "too large": str(2**63),
    "18 digits": "9" * 18,
    "19 digits": "9" * 19,
    "8 KB": "9" * 8000,
    "sql": "1 OR 1=1; DROP TABLE changes",
    "latin": "\xe9\xff",
    "nul": "1\x00",
    "digits in utf-8": "١٢".encode().decode("latin-1"),
    "superscript": "\xb2",
    "words": "undefined",
    "nearly the end": "done ",
}


@pytest.mark.parametrize("seen", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_is_no_id_of_ours_is_a_reset_and_then_everything(seen: str) -> None:
    reset, *rest = resumed("/changes?after=3", seen)
    assert reset == ("reset", "{}", "")
    *rows, end = rest
    assert rows == [event(number) for number in range(4, ROWS + 1)]
    assert end == ("done", f'{{"rows": {ROWS - 3}}}', "done")


def test_a_row_that_is_gone_is_a_reset_as_well(file: Path) -> None:
    run_sql(file, "DELETE FROM changes WHERE id <= 10")
    reset, first, *_ = resumed("/changes", "7")
    assert (reset[0], first) == ("reset", event(11))


def test_an_empty_field_is_a_first_visit() -> None:
    assert resumed("/changes?until=1", "")[0] == event(1)


def test_an_id_is_never_given_a_second_time(file: Path) -> None:
    run_sql(file, "DELETE FROM changes")
    add(file)
    assert run_sql(file, "SELECT id FROM changes") == [(ROWS + 1,)]


# The feed


def test_a_feed_sends_what_is_there_and_then_what_comes(file: Path) -> None:
    async def test(shop: Shop) -> None:
        async with following(shop) as feed:
            assert await next_ids(feed, ROWS) == list(range(1, ROWS + 1))
            for number in range(ROWS + 1, ROWS + 6):
                coming = asyncio.ensure_future(anext(feed))
                await asyncio.sleep(0)
                assert not coming.done()
                add(file, order_id=number)
                change = await coming
                assert (change.event, change.id) == ("change", str(number))
                assert change.data.order_id == number

    within(test)


@pytest.mark.parametrize(("after", "seen"), [(ROWS - 2, ""), (0, str(ROWS - 2))])
def test_a_feed_begins_where_the_address_or_the_browser_says(
    after: int, seen: str
) -> None:
    async def test(shop: Shop) -> None:
        async with following(shop, after, seen) as feed:
            assert await next_ids(feed, 2) == [ROWS - 1, ROWS]

    within(test)


def test_a_feed_that_is_asked_for_a_foreign_id_begins_anew() -> None:
    async def test(shop: Shop) -> None:
        async with following(shop, 5, "a cat") as feed:
            reset = await anext(feed)
            assert (reset.event, reset.data, reset.id) == ("reset", {}, None)
            assert await next_ids(feed, 1) == [6]

    within(test)


def test_a_row_that_comes_between_the_query_and_the_waiting_is_not_lost(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Shop.read

    async def read_then_commit(shop: Shop, query: Any) -> list[Any]:  # noqa: ANN401
        rows = await real(shop, query)
        if not rows and not run_sql(file, f"SELECT 1 FROM changes WHERE id > {ROWS}"):  # noqa: S608
            add(file)
            changed = shop.changed
            # The watcher tells everybody, and this feed does not wait yet.
            await changed.wait()
            assert shop.changed is not changed
        return rows

    monkeypatch.setattr(Shop, "read", read_then_commit)

    async def test(shop: Shop) -> None:
        async with following(shop, ROWS) as feed:
            assert await next_ids(feed, 1) == [ROWS + 1]

    within(test)


def test_a_row_that_a_client_knows_before_the_watcher_is_not_waited_for_again(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "POLL", {"sqlite": 1000})

    async def test(shop: Shop) -> None:
        add(file)  # The watcher has not looked since.
        async with following(shop, ROWS) as feed:
            assert await next_ids(feed, 1) == [ROWS + 1]
        async with following(shop, 0, str(ROWS + 1)) as feed:
            # Known, so no reset: the table was asked, not the watcher.
            coming = asyncio.ensure_future(anext(feed))
            _, waiting = await asyncio.wait([coming], timeout=0.1)
            assert waiting == {coming}
            coming.cancel()
            await asyncio.wait([coming])

    within(test)


def test_twenty_feeds_get_every_row_once_and_the_database_is_polled_once(
    file: Path,
) -> None:
    async def count(shop: Shop, looks: int) -> int:
        """Count the queries until the watcher has looked so often."""
        asked: list[str] = []

        def note(*arguments: Any) -> None:  # noqa: ANN401
            asked.append(arguments[2])

        engine = shop.engine.sync_engine
        sql.event.listen(engine, "before_cursor_execute", note)
        await until(lambda: sum("max(" in one for one in asked) >= looks)
        sql.event.remove(engine, "before_cursor_execute", note)
        return len(asked)

    async def test(shop: Shop) -> None:
        got: dict[int, list[int]] = {number: [] for number in range(20)}

        async def follow(number: int) -> None:
            async with following(shop, ROWS) as feed:
                while True:
                    got[number] += await next_ids(feed, 1)

        assert await count(shop, 3) == 3  # nobody is there
        tasks = [asyncio.create_task(follow(number)) for number in got]
        waiters: Any = shop.changed
        await until(lambda: len(waiters._waiters) == 20)
        assert await count(shop, 3) == 3  # twenty wait
        for _ in range(5):
            add(file)
            await asyncio.sleep(0.002)
        want = list(range(ROWS + 1, ROWS + 6))
        await until(lambda: all(len(ids) >= len(want) for ids in got.values()))
        assert list(got.values()) == [want] * 20
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    within(test)


def test_a_row_with_a_state_that_nobody_knows_stops_nothing(file: Path) -> None:
    add(file, state="lost at sea\n\nevent: admin")
    add(file)
    rows = found(drive(app, f"/changes?after={ROWS}"))
    assert [row[2] for row in rows] == [str(ROWS + 1), str(ROWS + 2), "done"]
    assert json.loads(rows[0][1])["state"] == "lost at sea\n\nevent: admin"


# Writing


def test_a_change_that_is_posted_is_a_row_and_an_event(file: Path) -> None:
    with TestClient(app) as client:
        answer = client.post("/orders/7/paid")
        assert (answer.status_code, answer.content) == (204, b"")
        body = client.get(f"/changes?after={ROWS}").content
    data = f'{{"id":{ROWS + 1},"order_id":7,"state":"paid"}}'
    assert sse.parse([body]).events[0] == ("change", data, str(ROWS + 1))
    assert run_sql(file, "SELECT count(*) FROM changes") == [(ROWS + 1,)]


@pytest.mark.parametrize(
    "path",
    [
        "/orders/-1/paid",
        "/orders/x/paid",
        "/orders/7/lost",
        f"/orders/{2**63 - 1}/paid",
    ],
)
def test_a_change_that_makes_no_sense_is_refused(path: str, file: Path) -> None:
    assert drive(app, path, method="POST").status == 422
    assert run_sql(file, "SELECT count(*) FROM changes") == [(ROWS,)]


def test_the_largest_order_can_be_written() -> None:
    assert drive(app, f"/orders/{2**63 - 2}/paid", method="POST").status == 204


# Connections


@every_route
def test_a_stalled_client_holds_no_connection(
    route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shops: list[Shop] = []
    real = Shop.__init__

    def noted(shop: Shop, *arguments: Any) -> None:  # noqa: ANN401
        real(shop, *arguments)
        shops.append(shop)

    monkeypatch.setattr(Shop, "__init__", noted)
    monkeypatch.setattr(recipe, "POLL", {"sqlite": 1000})
    out: list[int] = []

    async def watching(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401
        async def noting(message: Any) -> None:  # noqa: ANN401
            await send(message)
            if message.get("body") and shops:
                pool: Any = shops[0].engine.pool
                out.append(pool.checkedout())

        await app(scope, receive, noting)

    drive(watching, route, stall_at=3, disconnect_at=3)
    assert set(out[1:]) == {1}  # the watcher's; beside the greeting a query runs


def test_there_are_three_connections_and_no_more() -> None:
    async def test(shop: Shop) -> None:
        pool: Any = shop.engine.pool
        assert (pool.size(), pool._max_overflow) == (3, 0)

    within(test)


@every_route
@pytest.mark.parametrize("at", [0, 1, 2, 3])
@pytest.mark.parametrize("stalls", [False, True])
def test_a_client_that_leaves_leaves_nothing_behind(
    route: str, at: int, stalls: bool
) -> None:
    tasks: list[int] = []

    async def counting(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401
        if scope["type"] == "http":
            before = asyncio.all_tasks()
            await app(scope, receive, send)
            tasks.append(len(asyncio.all_tasks() - before))
        else:
            await app(scope, receive, send)

    run = drive(counting, route, stall_at=at if stalls else None, disconnect_at=at)
    assert run.journal[-1] == "returned"
    assert run.error is None
    assert tasks == [0]


@every_route
def test_without_the_guard_a_slow_client_that_leaves_is_an_error(
    route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = {recipe.slow_client_may_leave: lambda: None}
    monkeypatch.setattr(app, "dependency_overrides", without)
    run = drive(app, route, stall_at=3, disconnect_at=3)
    assert isinstance(run.error, ExceptionGroup)


def test_the_guard_drops_that_error_and_no_other() -> None:
    async def leave_with(error: Exception) -> None:
        async with asynccontextmanager(recipe.slow_client_may_leave)():
            raise error

    left = anyio.BrokenResourceError()
    asyncio.run(leave_with(ExceptionGroup("a slow client left", [left])))
    with pytest.raises(ExceptionGroup) as failed:
        asyncio.run(leave_with(ExceptionGroup("both", [left, ValueError("no")])))
    assert [str(error) for error in failed.value.exceptions] == ["no"]


def test_a_query_that_has_begun_is_read_to_its_end_when_the_client_leaves() -> None:
    async def test(shop: Shop) -> None:
        rows: list[Any] = []

        async def ask() -> None:
            rows.extend(await shop.read(sql.select(recipe.table)))
            await anyio.lowlevel.checkpoint()
            rows.append("and then it went on")

        async with anyio.create_task_group() as client:
            client.start_soon(ask)
            await anyio.lowlevel.checkpoint()
            client.cancel_scope.cancel()
        assert len(rows) == ROWS

    within(test)


def test_a_query_that_takes_too_long_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert REAL["PATIENCE"] == 10

    async def test(shop: Shop) -> None:
        pool: Any = shop.engine.pool
        held = [await shop.engine.connect() for _ in range(2)]
        monkeypatch.setattr(recipe, "PATIENCE", 0.05)
        with pytest.raises(TimeoutError):
            await shop.read(sql.select(recipe.table))
        for connection in held:
            await connection.close()
        monkeypatch.setattr(recipe, "PATIENCE", 10)
        assert len(await shop.read(sql.select(recipe.table))) == ROWS
        assert pool.checkedout() == 1

    within(test)


# Failures


@every_route
@pytest.mark.parametrize("broken_at", [1, 2, 3])
def test_a_database_that_fails_ends_the_stream_and_loses_nothing(
    route: str,
    broken_at: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    reads = 0
    real = Shop.read

    async def failing(shop: Shop, query: Any) -> list[Any]:  # noqa: ANN401
        nonlocal reads
        reads += 1
        if reads == broken_at:
            raise OSError("the network is down")
        return await real(shop, query)

    monkeypatch.setattr(Shop, "read", failing)
    run = drive(app, route)
    rows = found(run)  # with the status 200, so that a browser comes back
    assert rows == [event(number) for number in range(1, (broken_at - 1) * PAGE + 1)]
    assert sse.parse(run.chunks).retry == 2000
    assert (run.error, run.journal[-2:]) == (None, ["end", "returned"])
    assert "A stream ended early" in caplog.text
    assert "the network is down" in caplog.text
    rest = resumed("/changes", rows[-1][2] if rows else "")
    assert rows + rest == [*map(event, range(1, ROWS + 1)), END]


def test_the_watcher_tries_again_and_the_feeds_go_on(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert recipe.RETRY == 2000
    pauses: list[float] = []
    real_look = recipe.look
    looks = 0

    async def failing(connection: Any, shop: Shop) -> None:  # noqa: ANN401
        nonlocal looks
        looks += 1
        if looks > 1:
            await real_look(connection, shop)
        await connection.close()
        shop.changed.set()
        raise OSError("the network is down")

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        add(file)

    monkeypatch.setattr(recipe, "look", failing)
    asyncio_ = mock.Mock(wraps=asyncio, sleep=pause)
    monkeypatch.setattr(recipe, "asyncio", asyncio_)

    async def test(shop: Shop) -> None:
        async with following(shop, ROWS) as feed:
            assert await next_ids(feed, 1) == [ROWS + 1]

    within(test)
    assert pauses == [2.0]
    assert "The watcher has lost the database: OSError('the network" in caplog.text


def test_nothing_of_the_watcher_is_left_when_the_server_stops() -> None:
    async def main() -> tuple[int, Any]:
        async with lifespan(app) as state:
            pool: Any = state["shop"].engine.pool
            assert pool.checkedout() == 1
        return len(asyncio.all_tasks()), pool

    tasks, pool = asyncio.run(main())
    assert tasks == 1
    assert pool.checkedout() == 0


def test_starting_and_stopping_at_once_leaves_no_connection_to_the_collector(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for _ in range(10):
        drive(app, "/openapi.json")
    gc.collect()
    assert caplog.text == ""


# First use


def test_the_first_start_makes_the_table_and_the_next_leaves_it_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("DATABASE_URL")
    made = tmp_path / "sse_database.sqlite"
    for _ in range(2):
        run = drive(app, "/changes")
        assert found(run)[-1] == ("done", '{"rows": 1000}', "done")
    assert run_sql(made, "SELECT count(DISTINCT order_id) FROM changes") == [(250,)]
    assert run_sql(made, "PRAGMA journal_mode") == [("wal",)]
    assert REAL["ROWS"] == 1000


def test_a_start_that_is_cut_off_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "new.sqlite"
    monkeypatch.setenv("DATABASE_URL", f"sqlite+aiosqlite:///{made}")
    with monkeypatch.context() as patch:
        patch.setattr(recipe, "sample", lambda _: {"order_id": None})
        with pytest.raises(AssertionError, match="NOT NULL"):
            drive(app, "/changes")
    assert run_sql(made, "SELECT * FROM sqlite_master") == []
    assert found(drive(app, "/changes"))[-1][0] == "done"


@pytest.mark.parametrize("column", ["order_id", "state"])
def test_a_change_has_an_order_and_a_state(column: str, file: Path) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="NOT NULL"):
        run_sql(file, f"UPDATE changes SET {column} = NULL")  # noqa: S608


def test_a_writer_is_not_blocked_by_a_reader(file: Path) -> None:
    with (
        closing(sqlite3.connect(file)) as reader,
        closing(sqlite3.connect(file, timeout=0)) as writer,
    ):
        cursor = reader.execute("SELECT id FROM changes")
        cursor.fetchone()
        with writer:
            writer.execute("UPDATE changes SET state = state WHERE id = 1")


def test_sqlite_lets_one_writer_in_at_a_time_so_ids_are_in_the_order_of_commits(
    file: Path,
) -> None:
    with (
        closing(sqlite3.connect(file)) as slow,
        closing(sqlite3.connect(file, timeout=0)) as quick,
    ):
        insert = "INSERT INTO changes (order_id, state) VALUES (1, 'paid')"
        slow.execute(insert)  # Its transaction is open.
        with pytest.raises(sqlite3.OperationalError, match="database is locked"):
            quick.execute(insert)
        slow.commit()
        with quick:
            assert quick.execute(insert).lastrowid == ROWS + 2


def test_postgresql_counts_the_ids_itself_and_takes_large_ones() -> None:
    dialect = cast(Any, postgresql).dialect()
    table = str(CreateTable(recipe.table).compile(dialect=dialect))
    assert "id BIGINT GENERATED ALWAYS AS IDENTITY" in table
    assert "order_id BIGINT NOT NULL" in table


def test_the_times_and_sizes_are_those_of_the_page() -> None:
    assert REAL["POLL"] == {"sqlite": 0.5, "postgresql": 5.0}
    assert REAL["PAGE"] == 500
    assert logging.getLogger("uvicorn.error") is recipe.log


class Postgres:
    """Stands for a connection to PostgreSQL, and notes what it is asked."""

    dialect: Any = cast(Any, postgresql).dialect()

    def __init__(self, *, empty: bool = True) -> None:
        self.empty = empty
        self.asked: list[str] = []
        self.looks = 0
        self.rings: dict[str, Callable[..., None]] = {}

    @asynccontextmanager
    async def begin(self) -> AsyncIterator["Postgres"]:
        """Give the connection."""
        yield self

    async def exec_driver_sql(self, statement: str) -> None:
        """Note a statement."""
        self.asked.append(statement)

    async def run_sync(self, what: Any) -> bool:  # noqa: ANN401
        """Say whether the table is there, or make it."""
        if what == recipe.table.create:
            self.asked.append("the table")
        return not self.empty

    async def execute(self, _: object, rows: list[Any]) -> None:
        """Note how many rows are written."""
        self.asked.append(f"{len(rows)} rows")

    async def get_raw_connection(self) -> "Postgres":
        """Give the driver's connection."""
        return self

    @property
    def driver_connection(self) -> "Postgres":
        """Give the driver's connection."""
        return self

    async def add_listener(self, channel: str, ring: Callable[..., None]) -> None:
        """Remember whom to call."""
        self.rings[channel] = ring

    async def scalar(self, _: object) -> int:
        """Note that somebody looks; there is a new row each time."""
        self.looks += 1
        return self.looks


@pytest.mark.parametrize("empty", [True, False])
def test_on_postgresql_the_first_start_also_makes_the_trigger(empty: bool) -> None:
    engine: Any = Postgres(empty=empty)
    asyncio.run(recipe.prepare(engine))
    made = ["the table", recipe.IN_TURN, recipe.BEFORE_INSERT, f"{REAL['ROWS']} rows"]
    assert engine.asked == [recipe.LOCK["postgresql"], *(made if empty else [])]


def test_the_watcher_looks_once_for_each_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "POLL", {"postgresql": 1000})
    database: Any = Postgres()

    async def test(shop: Shop) -> None:
        watching = asyncio.create_task(recipe.look(database, shop))
        for looks in (1, 2, 3):
            while database.looks < looks:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            for _ in range(50):
                await asyncio.sleep(0)
            assert database.looks == looks
            changed = shop.changed
            # What asyncpg gives: connection, process, channel, payload.
            database.rings["changes"](database, 7, "changes", "")
            await changed.wait()
        watching.cancel()
        await asyncio.wait([watching])

    within(test)


def test_a_look_that_takes_too_long_is_given_up_so_that_the_watcher_connects_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database: Any = Postgres()
    monkeypatch.setattr(recipe, "PATIENCE", 0.01)
    monkeypatch.setattr(database, "scalar", lambda _: asyncio.Event().wait())
    with pytest.raises(TimeoutError):
        asyncio.run(recipe.look(database, Shop(database)))


def test_a_look_that_finds_nothing_new_wakes_nobody() -> None:
    async def test(shop: Shop) -> None:
        changed = shop.changed
        await asyncio.sleep(0.05)  # some five looks
        assert shop.changed is changed
        assert not changed.is_set()

    within(test)
