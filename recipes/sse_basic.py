# /// script
# requires-python = ">=3.11"
# dependencies = ["fastapi>=0.165", "sse-starlette>=3.7", "uvicorn>=0.54"]
# ///
"""Send the same Server-Sent Events by three layers.

Run it:   uvicorn recipes.sse_basic:app
Try it:   curl -N http://127.0.0.1:8000/native
          curl -N http://127.0.0.1:8000/by-hand
          curl -N http://127.0.0.1:8000/sse-starlette
"""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, NamedTuple

import sse_starlette
import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException
from fastapi.responses import FileResponse, StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel

PAUSE = 0.5  # seconds between two events of an order
RETRY = 2000  # milliseconds that a browser waits before it connects again
END = "end"  # the id of the last event
LastEventID = Annotated[str | None, Header()]

app = FastAPI(title="sse_basic")


class Order(BaseModel):
    """What the shop tells about one order."""

    id: int
    state: str


class Event(NamedTuple):
    """One event, as the producer makes it and each layer frames it."""

    data: str
    event: str
    id: str
    retry: int | None = None
    comment: str | None = None


# --8<-- [start:producer]
async def order_events() -> AsyncIterator[Event]:
    """Tell what happens to order 7, and say when that is all."""
    placed = Order(id=7, state="placed").model_dump_json()
    yield Event(placed, "order", "1", retry=RETRY, comment="the feed of order 7")
    for number, state in enumerate(("paid", "packed", "shipped"), start=2):
        await asyncio.sleep(PAUSE)
        yield Event(Order(id=7, state=state).model_dump_json(), "order", str(number))
    yield Event("Leave it at the door.\nRing twice.", "note", "5")
    yield Event("{}", "end", END)  # A browser drops an event without data.


# --8<-- [end:producer]
# --8<-- [start:frame]
def frame(event: Event) -> str:
    """Write one event by the WHATWG rules; ValueError if a name has a line end."""
    if re.search(r"[\r\n\0]", f"{event.event}{event.id}{event.comment}"):
        raise ValueError("event, id and comment must fit on one line each")
    lines = [f": {event.comment}"] if event.comment else []
    lines += [f"event: {event.event}", f"id: {event.id}"]
    lines += [f"data: {line}" for line in re.split(r"\r\n|\r|\n", event.data)]
    if event.retry is not None:
        lines.append(f"retry: {event.retry}")
    return "\n".join(lines) + "\n\n"


# --8<-- [end:frame]
# --8<-- [start:routes]
async def not_after_the_end(last_event_id: LastEventID = None) -> None:
    """Answer 204 to a browser that has seen the end; then it stops coming back."""
    if last_event_id == END:
        raise HTTPException(204)


UNFINISHED = [Depends(not_after_the_end)]


@app.get("/by-hand", dependencies=UNFINISHED)
async def by_hand() -> StreamingResponse:
    """Frame the events with `frame`: nothing between you and the wire."""
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    events = (frame(event) async for event in order_events())
    return StreamingResponse(events, 200, headers, "text/event-stream")


@app.get("/native", response_class=EventSourceResponse, dependencies=UNFINISHED)
async def native() -> AsyncIterator[ServerSentEvent]:
    """Yield FastAPI's own events; it frames, checks and pings."""
    async for event in order_events():
        fields = event._asdict()
        yield ServerSentEvent(raw_data=fields.pop("data"), **fields)


@app.get("/sse-starlette", dependencies=UNFINISHED)
async def by_sse_starlette() -> sse_starlette.EventSourceResponse:
    """Hand the events to sse-starlette; it also minds shutdown and slow clients."""
    wrap = sse_starlette.ServerSentEvent
    events = (wrap(**event._asdict()) async for event in order_events())
    return sse_starlette.EventSourceResponse(events)


# --8<-- [end:routes]
@app.get("/")
def page() -> FileResponse:
    """Show the events in a browser."""
    return FileResponse(Path(__file__).with_suffix(".html"))


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8000)
