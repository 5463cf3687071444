"""Tell what happens to an order, by server-sent events.

Run it:   uvicorn docs.learn.feed_sse:app
Try it:   curl -N http://127.0.0.1:8000/feed
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

# --8<-- [start:imports]
from fastapi import Depends, FastAPI, Header, HTTPException
from fastapi.sse import EventSourceResponse, ServerSentEvent

# --8<-- [end:imports]
from pydantic import BaseModel

app = FastAPI(title="feed_sse")

PAUSE = 0.5  # seconds


# --8<-- [start:producer]
class Change(BaseModel):
    """What has happened to an order."""

    id: int
    order: int
    state: str


STATES = {1: "placed", 2: "paid", 3: "packed", 4: "shipped"}


async def changes(after: int) -> AsyncIterator[Change]:
    """Tell what happens to order 7 after the change with this id; 0 is the start."""
    for number, state in STATES.items():
        if number > after:
            await asyncio.sleep(PAUSE)
            yield Change(id=number, order=7, state=state)


# --8<-- [end:producer]
# --8<-- [start:feed]
async def seen(last_event_id: Annotated[str | None, Header()] = None) -> int:
    """Give the id of the last change that this client has; 204 if it has the end."""
    if last_event_id == "end":
        raise HTTPException(204)
    ids = {str(number): number for number in STATES}
    return ids.get(last_event_id or "", 0)


@app.get("/feed", response_class=EventSourceResponse)
async def feed(after: Annotated[int, Depends(seen)]) -> AsyncIterator[ServerSentEvent]:
    """Send each change as an event, and say when that is all."""
    async for change in changes(after):
        yield ServerSentEvent(data=change, event="change", id=str(change.id))
    yield ServerSentEvent(raw_data="{}", event="end", id="end")


# --8<-- [end:feed]
