"""Wrong: a session from a dependency keeps its connection until the client has read.

Run it:   uvicorn recipes.pitfalls.ndjson_database.session_for_the_whole_stream:app
Try it:   curl -Z --parallel-immediate --no-progress-meter \
-o /dev/null http://127.0.0.1:8000/a -o /dev/null http://127.0.0.1:8000/b \
-o /dev/null http://127.0.0.1:8000/c
See it:   transfer closed with outstanding read data remaining
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from recipes import ndjson_database
from recipes.ndjson_database import table


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """Open the recipe's database with a pool that waits for a fifth of a second."""
    async with ndjson_database.lifespan(app) as state:
        url = state["engine"].url
        engine = create_async_engine(url, pool_size=2, max_overflow=0, pool_timeout=0.2)
        yield {"engine": engine}
        await engine.dispose()


app = FastAPI(lifespan=lifespan)


# --8<-- [start:wrong]
async def open_session(request: Request) -> AsyncIterator[AsyncSession]:
    """Give a session; FastAPI closes it when the whole stream has been sent."""
    async with AsyncSession(request.state.engine) as session:
        yield session


@app.get("/{client}")
async def export(
    client: str,
    session: Annotated[AsyncSession, Depends(open_session)],
    limit: int = 30_000,
) -> AsyncIterator[dict[str, Any]]:
    """Read the orders while they are sent."""
    rows = await session.stream(select(table).limit(limit))
    async for row in rows:
        order = {"id": row.id, "customer": row.customer, "item": row.item}
        yield {"client": client, "placed_at": row.placed_at, **order}


# --8<-- [end:wrong]
