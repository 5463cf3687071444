"""Wrong: between the look at the limit and the place taken, others look too.

Run it:   uvicorn recipes.pitfalls.stream_limits.await_before_the_place:app
Try it:   curl -N -Z --parallel-immediate --no-progress-meter --max-time 2 \
            'http://127.0.0.1:8000/events?tab=[1-4]'
See it:   places that are taken: 4
"""

# --8<-- [start:program]
import asyncio
from collections.abc import AsyncIterator

from fastapi import Depends, FastAPI, HTTPException
from fastapi.sse import EventSourceResponse

LIMIT = 1  # streams at a time
app = FastAPI()
places: list[str] = []
rows: list[str] = []  # who has ever had a place


async def write_down(tab: str) -> None:
    """Stand for a row in your database, which takes its time."""
    await asyncio.sleep(0.2)
    rows.append(tab)


# --8<-- [end:program]
# --8<-- [start:wrong]
async def take_place(tab: str) -> AsyncIterator[None]:
    """Refuse, or take a place and give it back in the end."""
    if len(places) >= LIMIT:
        raise HTTPException(429)
    await write_down(tab)
    places.append(tab)
    try:
        yield
    finally:
        places.remove(tab)


# --8<-- [end:wrong]
# --8<-- [start:right]
async def take_place_at_once(tab: str) -> AsyncIterator[None]:
    """Look and take without an `await` in between."""
    if len(places) >= LIMIT:
        raise HTTPException(429)
    places.append(tab)
    try:
        await write_down(tab)
        yield
    finally:
        places.remove(tab)


# --8<-- [end:right]
async def told() -> AsyncIterator[str]:
    """Tell how many places are taken."""
    for _ in range(10):
        yield f"places that are taken: {len(places)}"
        await asyncio.sleep(0.5)


@app.get(
    "/events", response_class=EventSourceResponse, dependencies=[Depends(take_place)]
)
async def events() -> AsyncIterator[str]:
    """Tell what the wrong dependency lets in."""
    async for line in told():
        yield line


@app.get(
    "/right",
    response_class=EventSourceResponse,
    dependencies=[Depends(take_place_at_once)],
)
async def right() -> AsyncIterator[str]:
    """Tell what the right one lets in."""
    async for line in told():
        yield line
