"""Wrong: an `await` in `finally` is cancelled as well, so nothing is saved.

Run it:   uvicorn recipes.pitfalls.sse_disconnect.await_in_finally:app
Try it:   curl -N --max-time 1 http://127.0.0.1:8000/shielded-events
          curl -N --max-time 1 http://127.0.0.1:8000/events
          curl http://127.0.0.1:8000/saved
See it:   ["shielded"]
"""

# --8<-- [start:program]
import asyncio
from collections.abc import AsyncIterator

import anyio
from fastapi import FastAPI
from fastapi.sse import EventSourceResponse

app = FastAPI()
database: list[str] = []


async def save(row: str) -> None:
    """Stand for a database, which takes its time."""
    await asyncio.sleep(0.01)
    database.append(row)


@app.get("/saved")
def saved() -> list[str]:
    """Tell what was saved."""
    return database


# --8<-- [end:program]
# --8<-- [start:wrong]
@app.get("/events", response_class=EventSourceResponse)
async def feed() -> AsyncIterator[str]:
    """Save how it ended."""
    try:
        while True:
            yield "placed"
            await asyncio.sleep(0.1)
    finally:
        await save("plain")


# --8<-- [end:wrong]
# --8<-- [start:right]
@app.get("/shielded-events", response_class=EventSourceResponse)
async def shielded_feed() -> AsyncIterator[str]:
    """Save how it ended, in at most five seconds."""
    try:
        while True:
            yield "placed"
            await asyncio.sleep(0.1)
    finally:
        with anyio.move_on_after(5, shield=True):
            await save("shielded")


# --8<-- [end:right]
