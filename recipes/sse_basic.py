# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "anyio>=4.16",
#   "fastapi>=0.165",
#   "sse-starlette>=3.7",
#   "uvicorn>=0.54",
# ]
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

import anyio
import sse_starlette
import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException
from fastapi.responses import FileResponse, StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel

PAUSE = 0.5  # seconds between two events of an order
RETRY = 2000  # milliseconds that a browser waits before it connects again
END = "end"  # the id of the last event

app = FastAPI(title="sse_basic")


# --8<-- [start:producer]
class Order(BaseModel):
    """What the shop tells about one order."""

    id: int
    state: str


class Event(NamedTuple):
    """One event, as the producer makes it and each layer frames it."""

    data: str
    event: str
    id: str
    retry: int | None = None  # milliseconds
    comment: str | None = None


async def order_events() -> AsyncIterator[Event]:
    """Tell what happens to order 7, and say when that is all."""
    placed = Order(id=7, state="placed").model_dump_json()
    yield Event(placed, "order", "1", retry=RETRY, comment="the feed of order 7")
    for number, state in enumerate(["paid", "packed", "shipped"], start=2):
        await asyncio.sleep(PAUSE)
        order = Order(id=7, state=state).model_dump_json()
        yield Event(order, "order", str(number))
    yield Event("Leave it at the door.\nRing twice.", "note", "5")
    yield Event("{}", "end", END)  # A browser drops an event without data.


# --8<-- [end:producer]
# --8<-- [start:native]
async def not_after_the_end(
    last_event_id: Annotated[str | None, Header()] = None,
) -> None:
    """Answer 204 to a browser that has seen the end; then it stops coming back."""
    if last_event_id == END:
        raise HTTPException(204)


async def slow_client_may_leave() -> AsyncIterator[None]:
    """Drop the error that FastAPI raises when a slow client leaves, and no other."""
    try:
        yield
    except* anyio.BrokenResourceError:
        pass  # An event was waiting for a client that is gone.


NATIVE = [Depends(not_after_the_end), Depends(slow_client_may_leave)]


@app.get("/native", response_class=EventSourceResponse, dependencies=NATIVE)
async def native() -> AsyncIterator[ServerSentEvent]:
    """Yield FastAPI's own events: it frames, checks and pings."""
    async for event in order_events():
        yield ServerSentEvent(
            raw_data=event.data,
            event=event.event,
            id=event.id,
            retry=event.retry,
            comment=event.comment,
        )


# --8<-- [end:native]
# --8<-- [start:frame]
def one_line(value: str) -> str:
    """Give the value back; ValueError if a line end would break out of its line."""
    if re.search(r"[\r\n\0]", value):
        raise ValueError("event, id and comment must fit on one line each")
    return value


def frame(event: Event) -> str:
    """Write one event by the WHATWG rules; ValueError as `one_line` says."""
    lines = []
    if event.comment is not None:
        lines.append(f": {one_line(event.comment)}")
    lines.append(f"event: {one_line(event.event)}")
    lines.append(f"id: {one_line(event.id)}")
    data_lines = re.split(r"\r\n|\r|\n", event.data)
    lines.extend(f"data: {line}" for line in data_lines)
    if event.retry is not None:
        lines.append(f"retry: {event.retry}")
    return "\n".join(lines) + "\n\n"  # An empty line ends the event.


# --8<-- [end:frame]
# --8<-- [start:by_hand]
async def framed_events() -> AsyncIterator[str]:
    """Write each event of the feed as text."""
    async for event in order_events():
        yield frame(event)


@app.get("/by-hand", dependencies=[Depends(not_after_the_end)])
async def by_hand() -> StreamingResponse:
    """Send text that is framed here: nothing stands between you and the wire."""
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(
        framed_events(), headers=headers, media_type="text/event-stream"
    )


# --8<-- [end:by_hand]
# --8<-- [start:sse_starlette]
async def wrapped_events() -> AsyncIterator[sse_starlette.ServerSentEvent]:
    """Turn each event of the feed into one of sse-starlette's."""
    async for event in order_events():
        yield sse_starlette.ServerSentEvent(
            data=event.data,
            event=event.event,
            id=event.id,
            retry=event.retry,
            comment=event.comment,
        )


@app.get("/sse-starlette", dependencies=[Depends(not_after_the_end)])
async def by_sse_starlette() -> sse_starlette.EventSourceResponse:
    """Hand the events to sse-starlette: it also minds shutdown and slow clients."""
    return sse_starlette.EventSourceResponse(wrapped_events())


# --8<-- [end:sse_starlette]
@app.get("/")
def page() -> FileResponse:
    """Show the events in a browser."""
    return FileResponse(Path(__file__).with_suffix(".html"))


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8000)
