# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "anyio>=4.16",
#     "fastapi>=0.165",
#     "orjson>=3.11",
#     "sqlalchemy[aiosqlite,postgresql-asyncpg]>=2.1.9",
#     "uvicorn>=0.54",
# ]
# [tool.cookbook]
# application = true
# ///
"""Stream the rows of a database as NDJSON, a page at a time.

Run it:   uvicorn recipes.ndjson_database:app
Try it:   curl -N 'http://127.0.0.1:8000/models?limit=3'
          curl -N 'http://127.0.0.1:8000/rows?state=paid&limit=3'
          curl -N 'http://127.0.0.1:8000/database?limit=5000'
"""

import logging
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import orjson
import sqlalchemy as sql
import uvicorn
from anyio import CancelScope
from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime, BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

log = logging.getLogger("uvicorn.error")  # what uvicorn shows on the console

# --8<-- [start:table]
State = Literal["placed", "paid", "packed", "shipped"]


class Order(BaseModel):
    """One row of the table."""

    id: int
    placed_at: AwareDatetime
    customer: str
    item: str
    quantity: int
    price: Decimal
    state: State


# SQLite has neither time zones nor decimals; as text both stay exact.
Time = sql.DateTime(timezone=True).with_variant(sql.Text(), "sqlite")
Money = sql.Numeric(18, 2).with_variant(sql.Text(), "sqlite")
table = sql.Table(
    "orders",
    sql.MetaData(),
    sql.Column("id", sql.Integer, primary_key=True),
    sql.Column("placed_at", Time),
    sql.Column("customer", sql.Text),
    sql.Column("item", sql.Text),
    sql.Column("quantity", sql.Integer),
    sql.Column("price", Money),
    sql.Column("state", sql.Text),
    sql.Index("orders_by_state", "state", "id"),  # a page of one state, in order
)


# --8<-- [end:table]
# --8<-- [start:first-use]
ROWS = 100_000  # orders that are made on first use
BATCH = 10_000  # orders that are written at once
OPENED = datetime(2026, 1, 1, 9, tzinfo=UTC)
CUSTOMERS = ("Ada", "Zoë", "O'Brien, Pat")
ITEMS = ("green tea", 'tea pot, 12" wide', "honey\n(two jars)", "crème brûlée")
PRICES = (Decimal("3.50"), Decimal("24.99"), Decimal("7.80"), Decimal("-5.00"))
STATES: tuple[State, ...] = ("placed", "paid", "packed", "shipped")
# Several processes may start at once: the first makes the table, the others wait.
LOCK = {"sqlite": "BEGIN IMMEDIATE", "postgresql": "SELECT pg_advisory_xact_lock(1)"}


def sample(number: int) -> Order:
    """Make up the order with this id; the same one every time."""
    return Order(
        id=number,
        placed_at=OPENED + timedelta(milliseconds=250 * number),
        customer=CUSTOMERS[number % 3],
        item=ITEMS[number % 4],
        quantity=number % 9 + 1,
        price=PRICES[number % 4],
        state=STATES[number % 4],
    )


async def fill(connection: AsyncConnection) -> None:
    """Write the sample orders, with progress on the console."""
    # In its mode "json" Pydantic writes times and decimals as text, for SQLite.
    mode = "json" if connection.dialect.name == "sqlite" else "python"
    for first in range(1, ROWS + 1, BATCH):
        last = min(first + BATCH - 1, ROWS)
        orders = [sample(n).model_dump(mode=mode) for n in range(first, last + 1)]
        await connection.execute(sql.insert(table), orders)
        log.info("Wrote %s of %s orders", f"{last:,}", f"{ROWS:,}")


async def prepare(engine: AsyncEngine) -> None:
    """Make the table with its orders unless it is there, all of it or nothing."""
    async with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            await connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        await connection.exec_driver_sql(LOCK[engine.dialect.name])
        if not await connection.run_sync(lambda c: sql.inspect(c).has_table("orders")):
            await connection.run_sync(table.create)
            await fill(connection)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """Open the database that DATABASE_URL names, or an SQLite file of our own."""
    file = Path(tempfile.gettempdir()) / "ndjson_database.sqlite"
    url = os.environ.get("DATABASE_URL") or f"sqlite+aiosqlite:///{file}"
    # Two connections are enough for any number of clients: a page needs one for
    # milliseconds. A connection waits 60 seconds for another process's lock.
    wait = {"timeout": 60}
    engine = create_async_engine(url, pool_size=2, max_overflow=0, connect_args=wait)
    try:
        await prepare(engine)
        yield {"engine": engine}
    finally:
        await engine.dispose()


app = FastAPI(title="ndjson_database", lifespan=lifespan)


# --8<-- [end:first-use]
# --8<-- [start:readers]
# JSON has one kind of number: as text, a price keeps every digit in every client.
PRICE = sql.cast(table.c.price, sql.Text).label("price")
COLUMNS = [PRICE if column.name == "price" else column for column in table.c]


class Page(NamedTuple):
    """What one query gives."""

    rows: int  # how many
    last: int  # id of the last row
    content: Any  # a list of orders, or lines as bytes


async def as_orders(connection: AsyncConnection, query: sql.Select[Any]) -> Page:
    """Check each row; its text becomes times and decimals again."""
    result = await connection.execute(query)
    orders = [Order.model_validate(row, from_attributes=True) for row in result]
    last = orders[-1].id if orders else 0
    return Page(len(orders), last, orders)


async def as_lines(connection: AsyncConnection, query: sql.Select[Any]) -> Page:
    """Write each row as a line of JSON, whatever is in it."""
    result = await connection.execute(query)
    last = 0
    lines = []
    for row in result:
        order = dict(zip(Order.model_fields, row, strict=True))
        lines.append(orjson.dumps(order, option=orjson.OPT_APPEND_NEWLINE))
        last = row.id
    return Page(len(lines), last, b"".join(lines))


async def as_json(connection: AsyncConnection, query: sql.Select[Any]) -> Page:
    """Let the database write the lines, and join those of a page."""
    page = query.subquery("page")
    if connection.dialect.name == "postgresql":
        line = sql.func.row_to_json(page.table_valued())
    else:
        # json_object wants name, value, name, value, one after the other.
        line = sql.func.json_object(*chain.from_iterable(page.c.items()))
    lines = sql.func.aggregate_strings(sql.cast(line, sql.Text), "\n")
    whole = sql.select(sql.func.count(), sql.func.max(page.c.id), lines)
    result = await connection.execute(whole)
    rows, last, text = result.one()
    return Page(rows, last or 0, f"{text}\n".encode())


Reader = Callable[[AsyncConnection, sql.Select[Any]], Awaitable[Page]]


# --8<-- [end:readers]
# --8<-- [start:pages]
PAGE = 2000  # rows


class Asked(BaseModel, extra="forbid"):
    """Which orders a request asks for; a misspelt filter is refused, not ignored."""

    state: State | None = None
    after: int = Field(0, ge=0, lt=2**31)  # an id: go on behind it
    limit: int = Field(100_000, ge=1, le=10_000_000)


class End(BaseModel):
    """The last line: whether these were all the orders, and how many."""

    done: bool = False
    rows: int = 0


class Export(NamedTuple):
    """What one request asks for; `end` says how far it has been read."""

    engine: AsyncEngine
    asked: Asked
    end: End


async def read_pages(export: Export, read: Reader) -> AsyncIterator[Page]:
    """Read page after page; between two of them no connection is held.

    A failure ends the pages early: `end.done` stays False, and the log says why.
    """
    end = export.end
    query = sql.select(*COLUMNS).order_by(table.c.id)
    if export.asked.state:
        query = query.where(table.c.state == export.asked.state)
    last = export.asked.after
    while not end.done:
        size = min(PAGE, export.asked.limit - end.rows)
        rest = query.where(table.c.id > last).limit(size)
        try:
            # A client may leave meanwhile: a query that has begun is read to its end.
            with CancelScope(shield=True):
                async with export.engine.connect() as connection:
                    page = await read(connection, rest)
        except Exception:
            log.exception("An export failed after %d rows", end.rows)
            return
        if page.rows:
            end.rows += page.rows
            last = page.last
            yield page
        end.done = page.rows < size or end.rows == export.asked.limit


# --8<-- [end:pages]
# --8<-- [start:routes]
class LinesResponse(StreamingResponse):
    """A stream of NDJSON."""

    media_type = "application/x-ndjson"


async def open_export(
    request: Request, answer: Response, asked: Annotated[Asked, Query()]
) -> Export:
    """Begin an export; nginx is told to pass each page on as it comes."""
    answer.headers["X-Accel-Buffering"] = "no"
    return Export(request.state.engine, asked, End())


Opened = Annotated[Export, Depends(open_export)]


@app.get("/models")
async def by_models(export: Opened) -> AsyncIterator[Order | End]:
    """Let FastAPI write each row; the API's schema describes it."""
    async for page in read_pages(export, as_orders):
        for order in page.content:
            yield order
    yield export.end


@app.get("/rows", response_class=LinesResponse)
async def by_rows(export: Opened) -> AsyncIterator[bytes]:
    """Write a page of rows with orjson."""
    async for page in read_pages(export, as_lines):
        yield page.content
    yield export.end.model_dump_json().encode() + b"\n"


@app.get("/database", response_class=LinesResponse)
async def by_database(export: Opened) -> AsyncIterator[bytes]:
    """Pass on what the database has written."""
    async for page in read_pages(export, as_json):
        yield page.content
    yield export.end.model_dump_json().encode() + b"\n"


# --8<-- [end:routes]
if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8000)
