# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "anyio>=4.16",
#   "fastapi>=0.165",
#   "sse-starlette>=3.7",
#   "uvicorn>=0.54",
# ]
# ///
"""Notice that a client has left, end its work, and give back what it held.

Run it:   uvicorn recipes.sse_disconnect:app
Try it:   curl -N --max-time 1.2 http://127.0.0.1:8000/native
          curl -N --max-time 1.2 http://127.0.0.1:8000/by-hand
          curl -N --max-time 1.2 http://127.0.0.1:8000/sse-starlette
          curl http://127.0.0.1:8000/report
"""

import asyncio
import json
import logging
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import anyio
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from sse_starlette import EventSourceResponse as OtherEventSourceResponse
from starlette.types import Message, Receive, Scope, Send

PAUSE = 0.5  # seconds between two orders
DAYS = 7  # in a report
PLACES = 100  # clients at a time, in this process
CLEAN_UP = 5.0  # seconds that writing down a visit may take
STALL = 30.0  # seconds for which a client may take nothing
LIFETIME = 600.0  # seconds that one stream lasts; then a browser connects again
BOOK = Path(tempfile.gettempdir()) / "sse_disconnect.txt"  # a line for each visit

log = logging.getLogger("uvicorn.error")  # what uvicorn shows on the console


# --8<-- [start:producer]
@dataclass(eq=False)
class Visit:
    """One client, what it has been given, and what told us that it had left."""

    path: str
    given: int = 0  # orders, or days of the report
    signs: list[str] = field(default_factory=list)


visits: set[Visit] = set()  # those that are open


async def new_orders(visit: Visit) -> AsyncGenerator[str, None]:
    """Tell of a new order every half second, in JSON, as long as a stream lasts."""
    until = time.monotonic() + LIFETIME
    try:
        while time.monotonic() < until:
            visit.given += 1
            yield json.dumps({"id": visit.given, "state": "placed"})
            await asyncio.sleep(PAUSE)
    except asyncio.CancelledError:
        visit.signs.append("cancelled at an await")
        raise  # Whoever swallows it is cancelled again and again.
    except GeneratorExit:
        visit.signs.append("closed at a yield")
        raise


# --8<-- [end:producer]
# --8<-- [start:dependency]
async def write_down(visit: Visit) -> None:
    """Add a line to the book; this awaits, so it can be cancelled."""
    signs = ", ".join(visit.signs) or "no sign that it left"
    line = f"{visit.path}: {visit.given} given; {signs}"
    async with await anyio.open_file(BOOK, "a", encoding="utf-8") as book:
        await book.write(f"{line}\n")
    log.info("%s; %d still open", line, len(visits))


async def take_a_place(request: Request) -> AsyncIterator[Visit]:
    """Hold a place for as long as the response lasts; 503 if there is none."""
    if len(visits) >= PLACES:
        raise HTTPException(503, "All places are taken.", {"Retry-After": "5"})
    visit = Visit(request.url.path)
    visits.add(visit)
    try:
        yield visit
    except* anyio.BrokenResourceError:
        pass  # FastAPI raises it if an event was waiting when the client left.
    finally:
        visits.remove(visit)
        with anyio.move_on_after(CLEAN_UP, shield=True):
            await write_down(visit)


Place = Annotated[Visit, Depends(take_a_place)]


async def open_feed(visit: Place) -> AsyncIterator[AsyncIterator[str]]:
    """Close the feed when the response ends, wherever the feed stands then."""
    async with aclosing(new_orders(visit)) as orders:
        yield orders


Feed = Annotated[AsyncIterator[str], Depends(open_feed)]


# --8<-- [end:dependency]
# --8<-- [start:patience]
class App(FastAPI):
    """Gives up a request whose client takes nothing for `STALL` seconds."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Limit each `send`, which waits while a client does not read."""
        with anyio.CancelScope() as request:

            async def send_in_time(message: Message) -> None:
                with anyio.move_on_after(STALL) as wait:
                    await send(message)
                if wait.cancelled_caught:
                    request.cancel()

            await super().__call__(scope, receive, send_in_time)


app = App(title="sse_disconnect")


# --8<-- [end:patience]
# --8<-- [start:streams]
@app.get("/native", response_class=EventSourceResponse)
async def native(orders: Feed) -> AsyncIterator[ServerSentEvent]:
    """Let FastAPI cancel the feed."""
    async for order in orders:
        yield ServerSentEvent(raw_data=order)


async def framed(orders: AsyncIterator[str]) -> AsyncIterator[str]:
    """Write each order as an event."""
    async for order in orders:
        yield f"data: {order}\n\n"


@app.get("/by-hand")
async def by_hand(orders: Feed) -> StreamingResponse:
    """Let Starlette cancel the feed."""
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(
        framed(orders), headers=headers, media_type="text/event-stream"
    )


@app.get("/sse-starlette")
async def other(visit: Place, orders: Feed) -> OtherEventSourceResponse:
    """Let sse-starlette call us, and then cancel the feed."""

    async def on_leaving(_: Message) -> None:
        visit.signs.append("handler called")

    return OtherEventSourceResponse(orders, client_close_handler_callable=on_leaving)


# --8<-- [end:streams]
# --8<-- [start:report]
@app.get("/report")
async def report(request: Request, visit: Place) -> dict[str, int]:
    """Add up the days; stop as soon as nobody waits for the sum."""
    for _ in range(DAYS):
        if await request.is_disconnected():
            visit.signs.append("told by is_disconnected")
            raise HTTPException(499, "The client has left.")
        await asyncio.sleep(PAUSE)  # This stands for a query, which finds 100 orders.
        visit.given += 1
    return {"days": visit.given, "orders": 100 * visit.given}


# --8<-- [end:report]
if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8000)
