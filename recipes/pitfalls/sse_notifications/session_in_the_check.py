"""Wrong: the check of who asks keeps its database connection as long as the stream.

Run it:   uvicorn recipes.pitfalls.sse_notifications.session_in_the_check:app
Try it:   curl -Z --parallel-immediate -N --no-progress-meter --max-time 2 \
http://127.0.0.1:8000/right/ada/events http://127.0.0.1:8000/right/ada/events \
http://127.0.0.1:8000/right/ada/events
          curl -Z --parallel-immediate -N --no-progress-meter --max-time 2 \
http://127.0.0.1:8000/wrong/ada/events http://127.0.0.1:8000/wrong/ada/events \
http://127.0.0.1:8000/wrong/ada/events
See it:   Internal Server Error
"""

# --8<-- [start:program]
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.sse import EventSourceResponse
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

KNOWN = text("SELECT :name IN ('ada', 'zoe')")


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """Open a database with two connections; one waits for them for a fifth second."""
    engine = create_async_engine(
        "sqlite+aiosqlite://",
        poolclass=AsyncAdaptedQueuePool,
        pool_size=2,
        max_overflow=0,
        pool_timeout=0.2,
    )
    yield {"engine": engine}
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


async def open_session(request: Request) -> AsyncIterator[AsyncSession]:
    """Give a session, and close it."""
    async with AsyncSession(request.state.engine) as session:
        yield session


async def is_known(name: str, session: AsyncSession) -> None:
    """Answer 404 to a stranger."""
    if not await session.scalar(KNOWN, {"name": name}):
        raise HTTPException(404)


# --8<-- [end:program]
# --8<-- [start:wrong]
async def check(
    name: str, session: Annotated[AsyncSession, Depends(open_session)]
) -> None:
    """Ask once; the session is closed when the response has ended."""
    await is_known(name, session)


@app.get(
    "/wrong/{name}/events",
    response_class=EventSourceResponse,
    dependencies=[Depends(check)],
)
async def events() -> AsyncIterator[dict[str, int]]:
    """Send something now and then; no query is made any more."""
    while True:
        yield {"version": 0}
        await asyncio.sleep(0.5)


# --8<-- [end:wrong]
# --8<-- [start:right]
async def quick_check(
    name: str,
    session: Annotated[AsyncSession, Depends(open_session, scope="function")],
) -> None:
    """Ask once; the session is closed before the response begins."""
    await is_known(name, session)


@app.get(
    "/right/{name}/events",
    response_class=EventSourceResponse,
    dependencies=[Depends(quick_check)],
)
async def quick_events() -> AsyncIterator[dict[str, int]]:
    """Send the same; no connection is held meanwhile."""
    while True:
        yield {"version": 0}
        await asyncio.sleep(0.5)


# --8<-- [end:right]
