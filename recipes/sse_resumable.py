# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "anyio>=4.16",
#   "fastapi>=0.165",
#   "redis>=8.1",
#   "uvicorn>=0.54",
# ]
# [tool.cookbook]
# application = true
# ///
"""Let a client that reconnects go on where it left off.

Run it:   uvicorn recipes.sse_resumable:app
Try it:   curl -X POST http://127.0.0.1:8000/orders/7
          curl -N --max-time 10 http://127.0.0.1:8000/events
          curl -X POST http://127.0.0.1:8000/end
"""

import asyncio
import logging
import os
import secrets
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path as File
from typing import Annotated, Any, NamedTuple

import anyio
import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException, Path, Request
from fastapi.responses import FileResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel
from redis.asyncio import Redis
from redis.exceptions import RedisError

console = logging.getLogger("uvicorn.error")  # what uvicorn shows on the console

# --8<-- [start:log]
KEEP = 1000  # events; when one more comes, the oldest is dropped
END = "end"  # the name of the feed's last event


class Event(NamedTuple):
    """One event, as it is kept and sent."""

    id: str
    name: str
    data: str


class Log:
    """The latest events, in the memory of this process.

    Events are numbered from 0 in the order in which they come, in this process alone.
    """

    def __init__(self) -> None:
        self.events = deque[Event](maxlen=KEEP)
        self.total = 0  # events so far, and so the number of the next one
        self.start = secrets.token_hex(8)  # another one each time the server starts
        self.end = ""  # the id of the feed's last event, once it is there
        self.news = asyncio.Event()  # set when the next event comes

    @property
    def first(self) -> int:
        """The number of the oldest event that is kept."""
        return self.total - len(self.events)

    async def find(self, last_id: str) -> int:
        """Give the number of the event after the one with this id.

        Without an id it is the oldest that is kept. If no event has this id, whatever
        the text is, it is -1.
        """
        if not last_id:
            return self.first
        for number, event in enumerate(self.events, self.first):
            if event.id == last_id:
                return number + 1
        return -1

    async def append(self, name: str, data: str) -> None:
        """Add an event; after the end nothing is added."""
        if not self.end:
            self.keep(Event(f"{self.start}-{self.total}", name, data))

    def keep(self, event: Event) -> None:
        """Keep an event, and wake every reader."""
        self.events.append(event)
        self.total += 1
        if event.name == END:
            self.end = event.id
        self.wake()

    def wake(self) -> None:
        """Wake every reader; the next time they wait for the next event."""
        self.news.set()
        self.news = asyncio.Event()

    async def follow(self) -> None:
        """Copy what others add; nobody else adds to this log."""

    async def close(self) -> None:
        """Let go of what the log holds."""


# --8<-- [end:log]
# --8<-- [start:redis]
KEY = "sse_resumable"  # the name of the stream in Redis
BLOCK = 500  # milliseconds that Redis waits for an event before it answers "none"
AGAIN = 0.5  # seconds until a Redis that did not answer is asked again

# Redis runs this as one step. An attempt whose answer was lost is made again; the mark
# tells Redis that the event is there already. It forgets a mark after an hour.
APPEND = f"""
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local ended = newest and newest[2][2] == '{END}'
if ended or not redis.call('SET', KEYS[2], '', 'NX', 'EX', 3600) then return end
redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[1], '*', 'name', ARGV[2], 'data', ARGV[3])
"""


class RedisLog(Log):
    """A copy of the log in Redis, which all processes share.

    One task keeps the copy up to date, so a reader needs no connection to Redis.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        self.redis = Redis.from_url(url, decode_responses=True)
        self.copied = asyncio.Event()  # set when the copy has been brought up to date

    async def find(self, last_id: str) -> int:
        """Look the id up; if it is not there, look again in a newer copy."""
        number = await super().find(last_id)
        if number == -1:
            # Another process may have sent an event that is on its way to us. What
            # is being copied now was perhaps asked for before, so wait for two.
            await self.copied.wait()
            await self.copied.wait()
            number = await super().find(last_id)
        return number

    async def append(self, name: str, data: str) -> None:
        """Add an event to the log in Redis; wait for as long as Redis is away."""
        mark = f"{KEY}:{secrets.token_hex(16)}"
        while True:
            try:
                await self.redis.eval(APPEND, 2, KEY, mark, KEEP, name, data)
                return
            except RedisError as error:
                console.warning("Redis did not take an event: %s", error)
                await asyncio.sleep(AGAIN)

    async def follow(self) -> None:
        """Keep the copy up to date, for as long as the server runs."""
        while True:
            try:
                await self.copy()
            except RedisError as error:
                console.warning("Redis did not answer: %s", error)
                await asyncio.sleep(AGAIN)

    async def copy(self) -> None:
        """Wait for something new in Redis, and copy it."""
        newest = self.events[-1].id if self.events else "0-0"
        await self.redis.xread({KEY: newest}, count=1, block=BLOCK)
        entries: Any = await self.redis.xrange(KEY, min=newest)
        if self.events and (not entries or entries[0][0] != newest):
            # Redis no longer has our newest event: some may have been dropped after it.
            self.events.clear()
            self.total += 1
            self.end = ""
            self.wake()
            return
        for entry_id, fields in entries:
            if entry_id != newest:
                self.keep(Event(entry_id, fields["name"], fields["data"]))
        self.copied.set()
        self.copied = asyncio.Event()

    async def close(self) -> None:
        """Close the connections."""
        await self.redis.aclose()


# --8<-- [end:redis]
# --8<-- [start:shop]
PAUSE = 0.5  # seconds between two states of an order
STATES = ("placed", "paid", "packed", "shipped")


class Order(BaseModel):
    """What the shop tells about one order."""

    id: int
    state: str


async def work_on(order_id: int, log: Log) -> None:
    """Do all that an order needs, and add each state to the log."""
    for state in STATES:
        order = Order(id=order_id, state=state)
        await log.append("order", order.model_dump_json())
        await asyncio.sleep(PAUSE)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """Open the log that STREAM_STORE names; the shop's work ends with the server."""
    store = os.environ.get("STREAM_STORE") or "memory"
    log = Log() if store == "memory" else RedisLog(store)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(log.follow)
        yield {"log": log, "tasks": tasks}
        tasks.cancel_scope.cancel()
    await log.close()


app = FastAPI(title="sse_resumable", lifespan=lifespan)


# --8<-- [end:shop]
# --8<-- [start:reader]
RESET = Event("", "reset", "{}")  # its empty id makes a client forget the id it had


async def read(log: Log, last_id: str) -> AsyncGenerator[Event, None]:
    """Give each event after the one with this id, up to the end of the feed.

    Without an id it begins with the oldest event that is kept. If the place of the id
    is not kept, or a reader falls behind the oldest, RESET comes first.
    """
    place = await log.find(last_id)
    while not log.end or place != log.total:
        if place < log.first:
            yield RESET
            place = log.first
        elif place < log.total:
            event = log.events[place - log.first]
            place += 1
            yield event
        else:
            await log.news.wait()


# --8<-- [end:reader]
# --8<-- [start:routes]
RETRY = range(1000, 3000)  # milliseconds that a client waits before it comes back


async def events_of(
    request: Request, last_event_id: Annotated[str, Header()] = "", after: str = ""
) -> AsyncIterator[AsyncIterator[Event]]:
    """Open the feed where the client left off, and close it when the client leaves."""
    log: Log = request.state.log
    last_id = last_event_id or after
    if last_id and last_id == log.end:
        raise HTTPException(204)  # A browser that is told so does not come back.
    async with aclosing(read(log, last_id)) as events:
        try:
            yield events
        except* anyio.BrokenResourceError:
            pass  # An event was waiting for a slow client that is gone.


Events = Annotated[AsyncIterator[Event], Depends(events_of)]


@app.get("/events", response_class=EventSourceResponse)
async def feed(events: Events) -> AsyncIterator[ServerSentEvent]:
    """Send the feed, and go on where a client left off."""
    yield ServerSentEvent(retry=secrets.choice(RETRY))
    async for event in events:
        yield ServerSentEvent(raw_data=event.data, event=event.name, id=event.id)


@app.post("/orders/{order_id}", status_code=202)
async def place_order(
    order_id: Annotated[int, Path(ge=1, lt=1_000_000)], request: Request
) -> Order:
    """Take an order; the shop works on it, whoever reads the feed."""
    if request.state.log.end:
        raise HTTPException(409, "The feed has ended")
    request.state.tasks.start_soon(work_on, order_id, request.state.log)
    return Order(id=order_id, state="accepted")


@app.post("/end", status_code=204)
async def end(request: Request) -> None:
    """End the feed for all clients."""
    request.state.tasks.start_soon(request.state.log.append, END, "{}")


@app.get("/")
def page() -> FileResponse:
    """Show the feed in a browser."""
    return FileResponse(File(__file__).with_suffix(".html"))


# --8<-- [end:routes]
if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8000)
