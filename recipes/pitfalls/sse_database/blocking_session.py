"""Wrong: a blocking session in an async generator stops everything else meanwhile.

Run it:   uvicorn recipes.pitfalls.sse_database.blocking_session:app
Try it:   curl -N http://127.0.0.1:8000/async-session
          curl -N http://127.0.0.1:8000/blocking-session
See it:   data: {"orders":3000000,"others_ran":0}

Each feed counts how often something else got its turn while the query ran.
"""

# --8<-- [start:program]
import asyncio
from collections.abc import AsyncIterator

import sqlalchemy as sql
from fastapi import FastAPI
from fastapi.sse import EventSourceResponse
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

app = FastAPI()
engine = sql.create_engine("sqlite://")
async_engine = create_async_engine("sqlite+aiosqlite://")
# A query that takes a while, as a report on a large table does.
COUNT = sql.text("""
    WITH RECURSIVE orders(id) AS (
        SELECT 1 UNION ALL SELECT id + 1 FROM orders WHERE id < 3000000
    )
    SELECT count(*) FROM orders
""")


class Report(BaseModel):
    """What a feed tells."""

    orders: int
    others_ran: int  # how often something else got its turn meanwhile


class Others:
    """Something else that wants its turn every hundredth of a second."""

    def __init__(self) -> None:
        self.ran = 0

    async def run(self) -> None:
        """Count the turns."""
        while True:
            await asyncio.sleep(0.01)
            self.ran += 1


# --8<-- [end:program]
# --8<-- [start:wrong]
@app.get("/blocking-session", response_class=EventSourceResponse)
async def blocking_session() -> AsyncIterator[Report]:
    """Use the session that every tutorial of SQLAlchemy begins with."""
    others = Others()
    running = asyncio.create_task(others.run())
    with Session(engine) as session:
        count = session.scalars(COUNT).one()
    running.cancel()
    yield Report(orders=count, others_ran=others.ran)


# --8<-- [end:wrong]
# --8<-- [start:right]
@app.get("/async-session", response_class=EventSourceResponse)
async def async_session() -> AsyncIterator[Report]:
    """Let the event loop serve others until the database has answered."""
    others = Others()
    running = asyncio.create_task(others.run())
    async with AsyncSession(async_engine) as session:
        result = await session.scalars(COUNT)
        count = result.one()
    running.cancel()
    yield Report(orders=count, others_ran=others.ran)


# --8<-- [end:right]
