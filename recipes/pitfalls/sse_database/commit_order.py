# /// script
# [tool.cookbook]
# needs = ["postgres"]
# ///
"""Wrong: on PostgreSQL a row with a lower id can appear later, and is never sent.

Run it:   uvicorn recipes.pitfalls.sse_database.commit_order:app
Try it:   curl http://127.0.0.1:8000/in-turn
          curl http://127.0.0.1:8000/as-they-come
See it:   {"sent":[2],"in_the_table":[1,2]}
"""

# --8<-- [start:program]
import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import sqlalchemy as sql
from fastapi import FastAPI, Request
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from recipes.sse_database import IN_TURN


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """Open the database that DATABASE_URL names."""
    engine = create_async_engine(os.environ["DATABASE_URL"])
    yield {"engine": engine}
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


# --8<-- [end:program]
# --8<-- [start:wrong]
def numbered(name: str) -> sql.Table:
    """Describe a table whose ids PostgreSQL counts."""
    number = sql.Column("id", sql.BigInteger, sql.Identity(), primary_key=True)
    return sql.Table(name, sql.MetaData(), number, sql.Column("writer", sql.Text))


async def read_behind(engine: AsyncEngine, table: sql.Table, last: int) -> list[int]:
    """Read the ids of the rows that a feed would send next."""
    query = sql.select(table.c.id).where(table.c.id > last).order_by(table.c.id)
    async with engine.connect() as connection:
        result = await connection.execute(query)
        return list(result.scalars())


@app.get("/as-they-come")
async def as_they_come(request: Request) -> dict[str, list[int]]:
    """Race two writers on a table like any other."""
    engine: AsyncEngine = request.state.engine
    table = numbered("as_they_come")
    async with engine.begin() as connection:
        await connection.run_sync(table.drop, checkfirst=True)
        await connection.run_sync(table.create)
    return await race(engine, table)


# --8<-- [end:wrong]
# --8<-- [start:right]
BEFORE_INSERT = """CREATE TRIGGER in_turn BEFORE INSERT ON in_turn
    FOR EACH STATEMENT EXECUTE FUNCTION changes_in_turn()"""


@app.get("/in-turn")
async def in_turn(request: Request) -> dict[str, list[int]]:
    """Race them on a table with the recipe's trigger."""
    engine: AsyncEngine = request.state.engine
    table = numbered("in_turn")
    async with engine.begin() as connection:
        await connection.run_sync(table.drop, checkfirst=True)
        await connection.run_sync(table.create)
        function = IN_TURN.replace("CREATE", "CREATE OR REPLACE", 1)
        await connection.exec_driver_sql(function)
        await connection.exec_driver_sql(BEFORE_INSERT)
    return await race(engine, table)


# --8<-- [end:right]
# --8<-- [start:race]
async def write(engine: AsyncEngine, table: sql.Table) -> None:
    """Write a row in a transaction of its own."""
    async with engine.begin() as connection:
        await connection.execute(sql.insert(table), {"writer": "quick"})


async def is_waiting(engine: AsyncEngine) -> bool:
    """Tell whether a writer waits for its turn."""
    query = sql.text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    async with engine.connect() as connection:
        return bool(await connection.scalar(query))


async def race(engine: AsyncEngine, table: sql.Table) -> dict[str, list[int]]:
    """Begin a slow writer, let a quick one overtake it, and read all the while."""
    async with engine.begin() as slow:
        await slow.execute(sql.insert(table), {"writer": "slow"})  # It gets id 1.
        quick = asyncio.create_task(write(engine, table))
        while not quick.done() and not await is_waiting(engine):
            await asyncio.wait([quick], timeout=0.01)
        sent = await read_behind(engine, table, 0)
    await quick
    last = max(sent, default=0)
    sent += await read_behind(engine, table, last)
    return {"sent": sent, "in_the_table": await read_behind(engine, table, 0)}


# --8<-- [end:race]
