# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "anyio>=4.16",
#   "fastapi>=0.165",
#   "sse-starlette>=3.7",
#   "uvicorn>=0.54",
# ]
# [tool.cookbook]
# application = true
# ///
"""Report a failure after the 200 has gone out, in five formats.

Run it:   uvicorn recipes.mid_stream_errors:app
Try it:   curl -N http://127.0.0.1:8000/native
          curl -N http://127.0.0.1:8000/ndjson
          curl -N http://127.0.0.1:8000/sse-starlette
          curl -N http://127.0.0.1:8000/by-hand
          curl -N 'http://127.0.0.1:8000/text?fail_at=6'
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Literal

import anyio
import sse_starlette
import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException, Response
from fastapi.responses import FileResponse, StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel

log = logging.getLogger("uvicorn.error")  # what uvicorn shows on the console


# --8<-- [start:source]
PAUSE = 0.25  # seconds until the next order is there
ITEMS = ("green tea", "tea pot", "honey", "crème brûlée", "tea cosy")
CUSTOMERS = {"ada": ITEMS, "zoe": ()}


class Order(BaseModel):
    """An open order."""

    type: Literal["order"] = "order"
    id: int
    item: str


class UnknownCustomerError(Exception):
    """There is no such customer."""


async def read_orders(customer: str, fail_at: int) -> AsyncGenerator[Order]:
    """Read a customer's orders from a shop whose database fails at order `fail_at`.

    Raises UnknownCustomerError, and ConnectionError when the database fails.
    """
    if customer not in CUSTOMERS:
        raise UnknownCustomerError
    for number, item in enumerate(CUSTOMERS[customer], start=1):
        await asyncio.sleep(PAUSE)
        if number == fail_at:
            raise ConnectionError("db-7.internal refused the password of user shop")
        yield Order(id=number, item=item)


# --8<-- [end:source]
# --8<-- [start:last]
class Done(BaseModel):
    """The last item of a feed that is complete."""

    type: Literal["done"] = "done"
    orders: int


class Failed(BaseModel):
    """The last item of a feed that is not: it tells nothing that the exception says."""

    type: Literal["failed"] = "failed"
    orders: int  # that came before
    reference: str  # the log has the cause under it


Item = Order | Done | Failed


async def to_its_end(
    first: Order | None, rest: AsyncIterator[Order], reference: str
) -> AsyncGenerator[Item]:
    """Give the orders, and then one item that says how the feed ended.

    No exception of the source leaves this generator: the log has it, with `reference`.
    """
    last: Done | Failed
    orders = 0
    try:
        if first is not None:
            orders += 1
            yield first
        async for order in rest:
            orders += 1
            yield order
    except Exception:
        log.exception("Feed %s failed after %d orders", reference, orders)
        last = Failed(orders=orders, reference=reference)
    else:
        last = Done(orders=orders)
    yield last


# --8<-- [end:last]
# --8<-- [start:first]
FIRST = 5  # seconds that a client waits for its status at most
AGAIN = "5"  # seconds until a client may ask again


async def open_feed(
    answer: Response, customer: str = "ada", fail_at: int = 4
) -> AsyncIterator[AsyncIterator[Item]]:
    """Read the first order while the status is still open; close what was opened.

    Raises HTTPException 404 for an unknown customer, and 503 for any failure.
    """
    reference = secrets.token_hex(8)
    answer.headers["X-Request-ID"] = reference
    async with aclosing(read_orders(customer, fail_at)) as source:
        try:
            async with asyncio.timeout(FIRST):
                first = await anext(source, None)
        except UnknownCustomerError:
            raise HTTPException(404, "There is no such customer.") from None
        except Exception:
            log.exception("Feed %s failed before its first order", reference)
            failed = Failed(orders=0, reference=reference)
            headers = {"X-Request-ID": reference, "Retry-After": AGAIN}
            raise HTTPException(503, failed.model_dump(), headers) from None
        async with aclosing(to_its_end(first, source, reference)) as items:
            yield items


Items = Annotated[AsyncIterator[Item], Depends(open_feed)]


# --8<-- [end:first]
# --8<-- [start:app]
END = "end"  # the id of the last event


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


async def pass_on_at_once(answer: Response) -> None:
    """Tell caches to keep nothing, and nginx to hold nothing back."""
    answer.headers["Cache-Control"] = "no-store"
    answer.headers["X-Accel-Buffering"] = "no"


AT_ONCE = [Depends(pass_on_at_once)]
GUARDS = [Depends(not_after_the_end), Depends(slow_client_may_leave)]
app = FastAPI(title="mid_stream_errors", dependencies=GUARDS)


# --8<-- [end:app]
# --8<-- [start:routes]
def id_of(item: Item) -> str:
    """Give the id of an item's event; `done` and `failed` are the end."""
    return str(item.id) if isinstance(item, Order) else END


@app.get("/native", response_class=EventSourceResponse)
async def native(items: Items) -> AsyncIterator[ServerSentEvent]:
    """Yield FastAPI's own events; an exception here would lose some of them."""
    async for item in items:
        yield ServerSentEvent(data=item, event=item.type, id=id_of(item))


async def wrapped(items: Items) -> AsyncIterator[sse_starlette.ServerSentEvent]:
    """Turn each item into an event of sse-starlette's."""
    async for item in items:
        data = item.model_dump_json()
        yield sse_starlette.ServerSentEvent(data, event=item.type, id=id_of(item))


@app.get("/sse-starlette")
async def by_sse_starlette(
    answer: Response, items: Items
) -> sse_starlette.EventSourceResponse:
    """Hand the events to sse-starlette; a response of your own takes its headers."""
    return sse_starlette.EventSourceResponse(wrapped(items), headers=answer.headers)


class EventStream(StreamingResponse):
    """Events that are written here."""

    media_type = "text/event-stream"


@app.get("/by-hand", response_class=EventStream, dependencies=AT_ONCE)
async def by_hand(items: Items) -> AsyncIterator[str]:
    """Write the events; in JSON no line end stands as it is."""
    async for item in items:
        data = item.model_dump_json()
        yield f"event: {item.type}\nid: {id_of(item)}\ndata: {data}\n\n"


@app.get("/ndjson", dependencies=AT_ONCE)
async def ndjson(items: Items) -> AsyncIterator[Item]:
    """Yield models: FastAPI writes each as a line of JSON."""
    async for item in items:
        yield item


class Text(StreamingResponse):
    """Plain text."""

    media_type = "text/plain"


@app.get("/text", response_class=Text, dependencies=AT_ONCE)
async def text(items: Items) -> AsyncIterator[str]:
    """Break the connection off: text has no other way to say that it is not whole."""
    async for item in items:
        if isinstance(item, Failed):
            raise ConnectionAbortedError(f"Feed {item.reference} is not complete")
        if isinstance(item, Order):
            yield f"{item.id} {item.item}\n"


# --8<-- [end:routes]
@app.get("/")
def page() -> FileResponse:
    """Show the events in a browser."""
    return FileResponse(Path(__file__).with_suffix(".html"))


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8000)
