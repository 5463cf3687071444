"""docs/recipes/ndjson_database.md: every claim the page makes, proved on SQLite.

tests/servers/test_ndjson_database.py proves them on PostgreSQL, and with real sockets.
"""

import asyncio
import json
import logging
import sqlite3
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import pytest
import sqlalchemy as sql
from fastapi.testclient import TestClient
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.schema import CreateTable
from starlette.types import Message, Receive, Scope, Send

from recipes import ndjson_database as recipe
from recipes.ndjson_database import Order, app, sample
from tests.kit.asgi import Run, drive, note

IN_A_PAGE = recipe.PAGE
IN_A_TABLE = recipe.ROWS
PAGE = 100  # rows, so that the tests are quick
ROWS = 2 * PAGE + 50  # two whole pages and a short one
ROUTES = {"/models": "as_orders", "/rows": "as_lines", "/database": "as_json"}

every_route = pytest.mark.parametrize("route", ROUTES)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give a database that the recipe has made on first use."""
    made = tmp_path_factory.mktemp("database") / "orders.sqlite"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", f"sqlite+aiosqlite:///{made}")
        patch.setattr(recipe, "ROWS", ROWS)
        with TestClient(app):
            yield made


@pytest.fixture(autouse=True)
def _known(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the recipe open that database; should it be empty, a small one is enough."""
    monkeypatch.setenv("DATABASE_URL", f"sqlite+aiosqlite:///{file}")
    monkeypatch.setattr(recipe, "ROWS", ROWS)
    monkeypatch.setattr(recipe, "PAGE", PAGE)


@pytest.fixture
def another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the place of a database of the test's own, which does not exist yet."""
    made = tmp_path / "orders.sqlite"
    monkeypatch.setenv("DATABASE_URL", f"sqlite+aiosqlite:///{made}")
    return made


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> list[AsyncEngine]:
    """Collect the engines that are made; note when a connection is taken and given."""
    made: list[AsyncEngine] = []

    def create(*arguments: Any, **options: Any) -> AsyncEngine:  # noqa: ANN401
        engine: AsyncEngine = real(*arguments, **options)
        pool = engine.sync_engine.pool
        sql.event.listen(pool, "checkout", lambda *_: note("taken"))
        sql.event.listen(pool, "checkin", lambda *_: note("given back"))
        made.append(engine)
        return engine

    real = vars(recipe)["create_async_engine"]
    monkeypatch.setattr(recipe, "create_async_engine", create)
    return made


@pytest.fixture
def noted_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Note every page that is read."""
    for reader in ROUTES.values():
        monkeypatch.setattr(recipe, reader, noted(getattr(recipe, reader)))


def noted(read: Callable[..., Any]) -> Callable[..., Any]:
    async def reading(connection: AsyncConnection, query: Any) -> Any:  # noqa: ANN401
        note("page")
        return await read(connection, query)

    return reading


def lines(run: Run) -> list[dict[str, Any]]:
    """Read every line of a body as JSON; each must end in a line feed."""
    *whole, rest = run.body.split(b"\n")
    assert rest == b""
    return [json.loads(line) for line in whole]


def orders(run: Run) -> list[Order]:
    """Read a complete body: all lines but the last."""
    *rows, end = lines(run)
    assert end == {"done": True, "rows": len(rows)}
    return [Order.model_validate(row) for row in rows]


@every_route
def test_these_are_the_bytes_of_two_orders_and_of_the_last_line(route: str) -> None:
    assert drive(app, f"{route}?after=7&limit=2").body.decode() == (
        '{"id":8,"placed_at":"2026-01-01T09:00:02Z","customer":"O\'Brien, Pat",'
        '"item":"green tea","quantity":9,"price":"3.50","state":"placed"}\n'
        '{"id":9,"placed_at":"2026-01-01T09:00:02.250000Z","customer":"Ada",'
        '"item":"tea pot, 12\\" wide","quantity":1,"price":"24.99","state":"paid"}\n'
        '{"done":true,"rows":2}\n'
    )


@every_route
def test_the_orders_are_all_there_as_they_were_written(route: str) -> None:
    found = orders(drive(app, route))
    assert found == [sample(number) for number in range(1, ROWS + 1)]


@pytest.mark.parametrize(
    ("route", "media_type"),
    [
        ("/models", "application/jsonl"),
        ("/rows", "application/x-ndjson"),
        ("/database", "application/x-ndjson"),
    ],
)
def test_it_is_ndjson_that_nginx_passes_on_at_once(route: str, media_type: str) -> None:
    run = drive(app, f"{route}?limit=1")
    assert run.status == 200
    assert run.headers["content-type"] == media_type
    assert run.headers["x-accel-buffering"] == "no"


def test_only_the_models_are_in_the_schema() -> None:
    paths = TestClient(app).get("/openapi.json").json()["paths"]
    contents = {
        route: paths[route]["get"]["responses"]["200"]["content"] for route in ROUTES
    }
    assert "Order" in json.dumps(contents["/models"])
    assert "Order" not in json.dumps([contents["/rows"], contents["/database"]])
    assert list(contents["/rows"]) == ["application/x-ndjson"]


@every_route
@pytest.mark.usefixtures("noted_pages")
def test_the_first_line_goes_out_before_the_second_page_is_read(route: str) -> None:
    run = drive(app, route)
    assert run.before("chunk 1").count("page") == 1
    assert run.journal.count("page") == 3
    assert json.loads(run.chunks[0].split(b"\n")[0])["id"] == 1


@pytest.mark.parametrize(("route", "chunks"), [("/rows", 4), ("/database", 4)])
def test_a_page_is_a_chunk(route: str, chunks: int) -> None:
    run = drive(app, route)
    assert [chunk.count(b"\n") for chunk in run.chunks] == [PAGE, PAGE, 50, 1]
    assert len(run.chunks) == chunks


@pytest.mark.usefixtures("noted_pages")
def test_with_models_a_row_is_a_chunk() -> None:
    assert len(drive(app, "/models?limit=10").chunks) == 11


@every_route
@pytest.mark.usefixtures("noted_pages")
def test_a_client_that_stops_reading_holds_no_connection(
    route: str, engines: list[AsyncEngine]
) -> None:
    run = drive(app, route, stall_at=2, disconnect_at=2)
    before = run.before("stall 2")
    assert before.count("page") <= 2
    assert before.count("taken") == before.count("given back") > 0
    assert len(engines) == 1


@every_route
def test_a_client_that_leaves_leaves_no_connection_behind(
    route: str, engines: list[AsyncEngine]
) -> None:
    run = drive(app, route, disconnect_at=1)
    assert run.journal.count("taken") == run.journal.count("given back")
    assert len(engines) == 1


@every_route
def test_a_query_is_read_to_its_end_when_the_client_leaves_in_it(
    route: str, engines: list[AsyncEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = getattr(recipe, ROUTES[route])
    begun = threading.Event()
    gone = asyncio.Event()

    async def reading(connection: AsyncConnection, query: Any) -> Any:  # noqa: ANN401
        begun.set()
        await gone.wait()
        page = await read(connection, query)
        note("page")
        return page

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        async def receiving() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect":
                gone.set()
            return message

        await app(scope, receiving, send)

    monkeypatch.setattr(recipe, ROUTES[route], reading)
    run = drive(watched, route, leave_after=begun.wait)
    assert run.journal.count("page") == 1
    assert run.journal.count("taken") == run.journal.count("given back")
    assert len(engines) == 1


@every_route
@pytest.mark.parametrize("limit", [1, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, ROWS])
@pytest.mark.usefixtures("noted_pages")
def test_a_limit_is_kept_without_a_page_too_many(route: str, limit: int) -> None:
    run = drive(app, f"{route}?limit={limit}")
    assert [order.id for order in orders(run)] == list(range(1, limit + 1))
    assert run.journal.count("page") == -(-limit // PAGE)


@every_route
@pytest.mark.usefixtures("noted_pages")
def test_a_table_that_ends_with_a_page_is_complete(route: str) -> None:
    run = drive(app, f"{route}?after={ROWS - PAGE}")
    assert len(orders(run)) == PAGE
    assert run.journal.count("page") == 2


@every_route
def test_no_orders_are_a_complete_answer_too(
    route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = []
    read = getattr(recipe, ROUTES[route])

    async def reading(connection: AsyncConnection, query: Any) -> Any:  # noqa: ANN401
        page = await read(connection, query)
        pages.append(page[:2])
        return page

    monkeypatch.setattr(recipe, ROUTES[route], reading)
    run = drive(app, f"{route}?after={2**31 - 1}&limit=10000000")
    assert run.body == b'{"done":true,"rows":0}\n'
    assert pages == [(0, 0)]


@every_route
@pytest.mark.parametrize("state", recipe.STATES)
def test_a_filter_by_state(route: str, state: str) -> None:
    found = orders(drive(app, f"{route}?state={state}"))
    everything = [sample(number) for number in range(1, ROWS + 1)]
    assert found == [order for order in everything if order.state == state]
    assert found


@every_route
@pytest.mark.parametrize(
    "query",
    [
        *("state=lost", "state=", "stat=paid", "after=-1", f"after={2**31}"),
        *("limit=0", "limit=10000001", "limit=all", "after=x'--"),
    ],
)
def test_a_wrong_filter_is_refused_before_the_stream_starts(
    route: str, query: str
) -> None:
    """Attack: SQL as a filter, or another one that is none: 422."""
    run = drive(app, f"{route}?{query}")
    assert run.status == 422
    (fault,) = json.loads(run.body)["detail"]
    assert fault["loc"] == ["query", query.split("=")[0]]


def test_a_page_has_two_thousand_rows() -> None:
    assert IN_A_PAGE == 2000


def test_without_a_limit_it_is_a_hundred_thousand() -> None:
    assert recipe.Asked.model_validate({}).model_dump() == {
        "state": None,
        "after": 0,
        "limit": 100_000,
    }


def failing_at(number: int, read: Callable[..., Any], error: Exception) -> Any:  # noqa: ANN401
    """Let a reader fail at a page, counted from 1."""
    pages = iter(range(1, 100))

    async def reading(connection: AsyncConnection, query: Any) -> Any:  # noqa: ANN401
        if next(pages) == number:
            raise error
        return await read(connection, query)

    return reading


@every_route
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_failure_is_a_last_line_and_the_log_says_why(
    route: str,
    number: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    error = OSError("password=secret")
    reader = ROUTES[route]
    broken = failing_at(number, getattr(recipe, reader), error)
    monkeypatch.setattr(recipe, reader, broken)
    run = drive(app, route)
    *rows, end = lines(run)
    assert end == {"done": False, "rows": (number - 1) * PAGE}
    assert len(rows) == end["rows"]
    assert b"secret" not in run.body
    assert run.journal[-1] == "returned"
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert record.getMessage() == f"An export failed after {end['rows']} rows"
    assert record.exc_info
    assert record.exc_info[1] is error


def test_what_came_before_a_failure_need_not_be_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        broken = failing_at(2, recipe.as_lines, OSError("gone"))
        patch.setattr(recipe, "as_lines", broken)
        *first, end = lines(drive(app, "/rows"))
    assert end == {"done": False, "rows": PAGE}
    rest = orders(drive(app, f"/rows?after={first[-1]['id']}"))
    numbers = [row["id"] for row in first] + [order.id for order in rest]
    assert numbers == list(range(1, ROWS + 1))


def run_sql(file: Path, *statements: str) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def test_a_row_that_is_no_order_is_a_failure_only_for_the_models(
    another: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "ROWS", 3)
    drive(app, "/rows?limit=1")
    run_sql(another, "UPDATE orders SET state = 'lost' WHERE id = 3")
    assert lines(drive(app, "/models")) == [{"done": False, "rows": 0}]
    for route in ("/rows", "/database"):
        *rows, end = lines(drive(app, route))
        assert (rows[-1]["state"], end) == ("lost", {"done": True, "rows": 3})


EXTREME = {
    "placed_at": "9999-12-31T23:59:59.999999Z",
    "customer": 'Zoë "\\" \u2028 🍵 \x7f',
    "item": "tab\there, bell\x07, line\r\nend",
    "price": "1234567890123456.78",
}


@every_route
def test_digits_times_and_letters_survive_exactly(
    route: str, another: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "ROWS", 1)
    drive(app, "/rows?limit=1")
    with closing(sqlite3.connect(another)) as connection, connection:
        names = " = ?, ".join(EXTREME)
        connection.execute(f"UPDATE orders SET {names} = ?", [*EXTREME.values()])  # noqa: S608
    (row, _) = lines(drive(app, route))
    assert {name: row[name] for name in EXTREME} == EXTREME
    assert Decimal(row["price"]) != Decimal(float(row["price"]))


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("", "USING INTEGER PRIMARY KEY (rowid>?)"),
        ("state = 'paid' AND", "USING INDEX orders_by_state (state=? AND id>?)"),
    ],
)
def test_a_page_is_found_by_an_index(file: Path, where: str, found: str) -> None:
    page = f"SELECT * FROM orders WHERE {where} id > 9 ORDER BY id LIMIT 5"  # noqa: S608
    with closing(sqlite3.connect(file)) as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {page}").fetchall()
    ((*_, step),) = plan
    assert found in step


def test_the_table_is_made_on_first_use_with_progress_on_the_console(
    another: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(recipe, "ROWS", 2500)
    monkeypatch.setattr(recipe, "BATCH", 1000)
    with caplog.at_level(logging.INFO, "uvicorn.error"):
        assert not another.exists()
        assert len(orders(drive(app, "/rows"))) == 2500
        said = ["1,000", "2,000", "2,500"]
        assert caplog.messages == [f"Wrote {n} of 2,500 orders" for n in said]
        caplog.clear()
        run_sql(another, "DELETE FROM orders WHERE id > 10")
        assert len(orders(drive(app, "/rows"))) == 10
        assert caplog.messages == []


def test_progress_is_shown_every_ten_thousand_orders(
    another: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert recipe.ROWS != IN_A_TABLE == 100_000
    monkeypatch.setattr(recipe, "ROWS", 10_001)
    with caplog.at_level(logging.INFO, "uvicorn.error"):
        drive(app, "/rows?limit=1")
    said = ["10,000", "10,001"]
    assert caplog.messages == [f"Wrote {n} of 10,001 orders" for n in said]
    assert another.exists()


def test_a_start_that_is_cut_off_leaves_no_half_table(
    another: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(number: int) -> Order:
        if number == 1500:
            raise KeyboardInterrupt
        return sample(number)

    monkeypatch.setattr(recipe, "ROWS", 2000)
    monkeypatch.setattr(recipe, "BATCH", 1000)
    with monkeypatch.context() as patch:
        patch.setattr(recipe, "sample", cut_off)
        with pytest.raises(KeyboardInterrupt):
            drive(app, "/rows")
    assert len(orders(drive(app, "/rows"))) == 2000
    assert another.exists()


def test_without_an_address_the_file_is_a_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "ROWS", 10)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    for value in ("", None):
        if value is None:
            monkeypatch.delenv("DATABASE_URL")
        else:
            monkeypatch.setenv("DATABASE_URL", value)
        assert len(orders(drive(app, "/rows"))) == 10
        assert (tmp_path / "ndjson_database.sqlite").exists()


def test_the_pool_has_two_connections(engines: list[AsyncEngine]) -> None:
    drive(app, "/rows?limit=1")
    (engine,) = engines
    pool = engine.sync_engine.pool
    assert isinstance(pool, sql.pool.QueuePool)
    assert (pool.size(), pool._max_overflow) == (2, 0)


def test_a_connection_waits_a_minute_for_the_lock_of_another_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    create = mock.Mock(side_effect=vars(recipe)["create_async_engine"])
    monkeypatch.setattr(recipe, "create_async_engine", create)
    drive(app, "/rows?limit=1")
    assert create.call_args.kwargs["connect_args"] == {"timeout": 60}


@pytest.mark.parametrize(
    ("dialect", "types"),
    [
        ("sqlite", ["placed_at TEXT", "price TEXT"]),
        (
            "postgresql",
            ["placed_at TIMESTAMP WITH TIME ZONE", "price NUMERIC(18, 2)"],
        ),
    ],
)
def test_sqlite_keeps_times_and_prices_as_text_and_postgresql_as_its_own_types(
    dialect: str, types: list[str]
) -> None:
    made = sql.make_url(f"{dialect}://").get_dialect()()
    table = str(CreateTable(recipe.table).compile(dialect=made))
    for column in types:
        assert f"{column}," in table


def test_a_row_that_lacks_a_column_is_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recipe, "COLUMNS", recipe.COLUMNS[:-1])
    assert lines(drive(app, "/rows")) == [{"done": False, "rows": 0}]


def test_a_writer_is_not_blocked_by_a_reader(file: Path) -> None:
    with (
        closing(sqlite3.connect(file)) as reader,
        closing(sqlite3.connect(file, timeout=0)) as writer,
    ):
        assert reader.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        cursor = reader.execute("SELECT id FROM orders")
        cursor.fetchone()
        with writer:
            writer.execute("UPDATE orders SET state = state WHERE id = 1")


@every_route
def test_an_order_that_is_paid_meanwhile_is_sent_once(
    route: str, another: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "ROWS", 3 * PAGE)
    reader = ROUTES[route]
    read = getattr(recipe, reader)

    async def reading(connection: AsyncConnection, query: Any) -> Any:  # noqa: ANN401
        page = await read(connection, query)
        # What would shift every page that is counted with OFFSET.
        run_sql(another, f"DELETE FROM orders WHERE id <= {page.last - PAGE // 2}")  # noqa: S608
        return page

    monkeypatch.setattr(recipe, reader, reading)
    found = orders(drive(app, route))
    assert [order.id for order in found] == list(range(1, 3 * PAGE + 1))


class Postgres:
    """Stands for a connection to PostgreSQL, and notes what it is asked."""

    dialect: Any = cast(Any, postgresql).dialect()

    def __init__(self) -> None:
        self.asked: list[str] = []

    @asynccontextmanager
    async def begin(self) -> AsyncIterator["Postgres"]:
        """Give the connection."""
        yield self

    async def exec_driver_sql(self, statement: str) -> None:
        """Note a statement."""
        self.asked.append(statement)

    async def run_sync(self, _: object) -> bool:
        """Say that the table is there."""
        return True

    async def execute(self, query: sql.Select[Any]) -> SimpleNamespace:
        """Note a query in PostgreSQL's words; answer with one row."""
        self.asked.append(str(query.compile(dialect=self.dialect)))
        return SimpleNamespace(one=lambda: (1, 7, "{}"))


def test_postgresql_is_locked_in_its_own_words() -> None:
    engine: Any = Postgres()
    asyncio.run(recipe.prepare(engine))
    assert engine.asked == [recipe.LOCK["postgresql"]]


def test_postgresql_writes_the_lines_with_row_to_json() -> None:
    connection: Any = Postgres()
    page = asyncio.run(recipe.as_json(connection, sql.select(recipe.table)))
    assert "row_to_json(" in connection.asked[0]
    assert page == (1, 7, b"{}\n")
