# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "anyio>=4.16",
#     "fastapi>=0.165",
#     "sqlalchemy[aiosqlite,postgresql-asyncpg]>=2.1.9",
#     "uvicorn>=0.54",
# ]
# [tool.cookbook]
# application = true
# ///
"""Send the rows of a table as events: those that are there, and those that come.

Run it:   uvicorn recipes.sse_database:app
Try it:   curl -N 'http://127.0.0.1:8000/changes?until=3'
          curl -N --max-time 20 -H 'Last-Event-ID: 996' http://127.0.0.1:8000/feed
          curl -i -X POST http://127.0.0.1:8000/orders/7/paid
"""

import asyncio
import logging
import os
import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal, get_args

import anyio
import sqlalchemy as sql
import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

log = logging.getLogger("uvicorn.error")  # what uvicorn shows on the console

# --8<-- [start:table]
State = Literal["placed", "paid", "packed", "shipped"]


class Change(BaseModel):
    """One row of the table, and the data of one event."""

    id: int
    order_id: int
    state: str  # Any text: one odd row must not stop the feed for everybody.


BigId = sql.BigInteger().with_variant(sql.Integer, "sqlite")
table = sql.Table(
    "changes",
    sql.MetaData(),
    sql.Column("id", BigId, sql.Identity(always=True), primary_key=True),
    sql.Column("order_id", BigId, nullable=False),
    sql.Column("state", sql.Text, nullable=False),
    sqlite_autoincrement=True,  # An id is never given a second time.
)

# PostgreSQL runs this before every INSERT, whoever writes. The lock is held until the
# writer has committed or given up, so ids become visible in their order.
IN_TURN = """CREATE FUNCTION changes_in_turn() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock(TG_RELID::bigint);
        NOTIFY changes;
        RETURN NULL;
    END $$"""
BEFORE_INSERT = """CREATE TRIGGER changes_in_turn BEFORE INSERT ON changes
    FOR EACH STATEMENT EXECUTE FUNCTION changes_in_turn()"""


# --8<-- [end:table]
# --8<-- [start:first-use]
ROWS = 1000  # changes that are made on first use
# Several processes may start at once: the first makes the table, the others wait.
LOCK = {"sqlite": "BEGIN IMMEDIATE", "postgresql": "SELECT pg_advisory_xact_lock(1)"}


def sample(number: int) -> dict[str, Any]:
    """Make up a change; each order is placed, paid, packed and shipped."""
    return {"order_id": number // 4 + 1, "state": get_args(State)[number % 4]}


async def prepare(engine: AsyncEngine) -> None:
    """Make the table with its rows unless it is there, all of it or nothing."""
    async with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            await connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        await connection.exec_driver_sql(LOCK[engine.dialect.name])
        if await connection.run_sync(lambda c: sql.inspect(c).has_table("changes")):
            return
        await connection.run_sync(table.create)
        if engine.dialect.name == "postgresql":
            await connection.exec_driver_sql(IN_TURN)
            await connection.exec_driver_sql(BEFORE_INSERT)
        await connection.execute(sql.insert(table), [sample(n) for n in range(ROWS)])


# --8<-- [end:first-use]
# --8<-- [start:watch]
PATIENCE = 10.0  # seconds that a query may take
POLL = {"sqlite": 0.5, "postgresql": 5.0}  # seconds between two looks at the table
RETRY = 2000  # milliseconds until a browser, or the watcher, connects again


class Shop:
    """The database, and an event that is set when the watcher sees a new row."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.changed = asyncio.Event()

    async def read(self, query: sql.Select[Any]) -> list[sql.Row[Any]]:
        """Run one query; TimeoutError if it takes longer than `PATIENCE`."""
        # A client may leave meanwhile: a query that has begun is read to its end.
        with anyio.fail_after(PATIENCE, shield=True):
            async with self.engine.connect() as connection:
                result = await connection.execute(query)
                return list(result)


async def look(connection: AsyncConnection, shop: Shop) -> None:
    """Look at each message of PostgreSQL, and when it is time; raise if that fails."""
    told = asyncio.Event()
    if connection.dialect.name == "postgresql":
        pooled = await connection.get_raw_connection()
        driver: Any = pooled.driver_connection
        await driver.add_listener("changes", lambda *_: told.set())
    last = -1
    while True:
        told.clear()
        with anyio.fail_after(PATIENCE):
            newest = await connection.scalar(sql.select(sql.func.max(table.c.id)))
        if newest != last:
            last = newest
            shop.changed.set()
            shop.changed = asyncio.Event()  # for the next row
        with anyio.move_on_after(POLL[connection.dialect.name]):
            await told.wait()


async def watch(shop: Shop) -> None:
    """Look for new rows, once for all clients, until the server stops."""
    # Without a transaction: in one, PostgreSQL would hold its messages back.
    engine = shop.engine.execution_options(isolation_level="AUTOCOMMIT")
    while True:
        try:
            async with engine.connect() as connection:
                await look(connection, shop)
        except Exception as error:
            log.warning("The watcher has lost the database: %r", error)
        await asyncio.sleep(RETRY / 1000)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """Open the database that DATABASE_URL names, or an SQLite file of our own."""
    file = f"sqlite+aiosqlite:///{tempfile.gettempdir()}/sse_database.sqlite"
    url = os.environ.get("DATABASE_URL") or file
    # Two connections for any number of clients, and one for the watcher. Each is asked
    # for a sign of life before it is used: PostgreSQL may have been restarted.
    engine = create_async_engine(url, pool_size=3, max_overflow=0, pool_pre_ping=True)
    try:
        await prepare(engine)
        shop = Shop(engine)
        watcher = asyncio.create_task(watch(shop))
        await shop.changed.wait()  # The watcher has looked for the first time.
        yield {"shop": shop}
        watcher.cancel()
        await asyncio.wait([watcher])
    finally:
        await engine.dispose()


# --8<-- [end:watch]
# --8<-- [start:events]
PAGE = 500  # rows that one query reads
ENDLESS = 2**63 - 1  # the largest id that a database can hold
ID = re.compile("[1-9][0-9]{0,17}")  # all of these are smaller
END = "done"  # the id of the last event of an export
Events = AsyncIterator[ServerSentEvent]


async def is_there(shop: Shop, seen: str) -> bool:
    """Tell whether this is the id of a row; a client may send any text."""
    if not ID.fullmatch(seen):
        return False
    rows = await shop.read(sql.select(table).where(table.c.id == int(seen)))
    return bool(rows)


async def rows_behind(shop: Shop, after: int, until: int, seen: str) -> Events:
    """Give the rows behind an id: up to `until` and a count, or each that comes."""
    yield ServerSentEvent(comment="changes of orders", retry=RETRY)
    last = after
    if await is_there(shop, seen):
        last = int(seen)
    elif seen:
        yield ServerSentEvent(event="reset", data={})
    page = sql.select(table).where(table.c.id <= until).order_by(table.c.id)
    while True:
        changed = shop.changed  # Before the query, so that no row comes in between.
        rows = await shop.read(page.where(table.c.id > last).limit(PAGE))
        for row in rows:
            change = Change.model_validate(row, from_attributes=True)
            yield ServerSentEvent(data=change, event="change", id=str(change.id))
            last = change.id
        if not rows and until == ENDLESS:
            await changed.wait()
        elif not rows:
            break
    count = sql.select(sql.func.count()).where(table.c.id > after, table.c.id <= last)
    rows = await shop.read(count)
    yield ServerSentEvent(event="done", data={"rows": rows[0][0]}, id=END)


async def events(shop: Shop, after: int, until: int, seen: str) -> Events:
    """End the stream when the database fails; a browser comes back and goes on."""
    try:
        async for event in rows_behind(shop, after, until, seen):
            yield event
    except Exception:
        log.exception("A stream ended early")


# --8<-- [end:events]
# --8<-- [start:routes]
async def what_was_seen(last_event_id: Annotated[str, Header()] = "") -> str:
    """Give what a browser saw last, as text; 204 if that was the end."""
    if last_event_id == END:
        raise HTTPException(204)
    return last_event_id


async def slow_client_may_leave() -> AsyncIterator[None]:
    """Drop the error that FastAPI raises when a slow client leaves, and no other."""
    try:
        yield
    except* anyio.BrokenResourceError:
        pass  # An event was waiting for a client that is gone.


Id = Annotated[int, Field(ge=0, lt=ENDLESS)]
Seen = Annotated[str, Depends(what_was_seen)]
GUARDS = [Depends(slow_client_may_leave)]
app = FastAPI(title="sse_database", lifespan=lifespan, dependencies=GUARDS)


@app.get("/changes", response_class=EventSourceResponse)
async def changes(
    request: Request, seen: Seen, after: Id = 0, until: Id = ENDLESS - 1
) -> Events:
    """Send the changes that are there, up to `until`, and then their count."""
    async for event in events(request.state.shop, after, until, seen):
        yield event


@app.get("/feed", response_class=EventSourceResponse)
async def feed(request: Request, seen: Seen, after: Id = 0) -> Events:
    """Send the changes that are there, and then each that comes."""
    async for event in events(request.state.shop, after, ENDLESS, seen):
        yield event


@app.post("/orders/{order_id}/{state}", status_code=204)
async def add(request: Request, order_id: Id, state: State) -> None:
    """Write a change of an order down."""
    async with request.state.shop.engine.begin() as connection:
        change = {"order_id": order_id, "state": state}
        await connection.execute(sql.insert(table), change)


# --8<-- [end:routes]
if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8000)
