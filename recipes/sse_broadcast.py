# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "anyio>=4.16",
#     "fastapi>=0.165",
#     "redis>=8.1",
#     "uvicorn>=0.54",
# ]
# [tool.cookbook]
# application = true
# ///
"""Send every event to every listener, and let a slow one miss some.

Run it:   uvicorn recipes.sse_broadcast:app
Try it:   curl -N --max-time 10 http://127.0.0.1:8000/events
          curl http://127.0.0.1:8000/orders --json '{"id": 7, "state": "paid"}'
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

import anyio
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

log = logging.getLogger("uvicorn.error")  # what uvicorn shows on the console


# --8<-- [start:listener]
WAITING = 100  # events that may wait for one listener
RETRY = 2000  # milliseconds that a browser waits before it connects again


def frame(event: str, data: str) -> bytes:
    """Write one event; `data` is JSON, so it is one line."""
    return f"event: {event}\ndata: {data}\n\n".encode()


class Listener:
    """The events that wait for one client; the oldest make room for new ones."""

    def __init__(self) -> None:
        self.waiting: asyncio.Queue[bytes] = asyncio.Queue(WAITING)
        self.missed = 0

    def put(self, event: bytes) -> None:
        """Add an event, and never wait for the client."""
        if self.waiting.full():
            self.waiting.get_nowait()
            self.missed += 1
        self.waiting.put_nowait(event)

    async def events(self) -> AsyncIterator[bytes]:
        """Take the events as they come; say first how many were missed before one."""
        yield f"retry: {RETRY}\n\n".encode()
        while True:
            event = await self.waiting.get()
            if self.missed:
                gap = frame("missed", f'{{"events":{self.missed}}}')
                self.missed = 0
                yield gap
            yield event


# --8<-- [end:listener]
# --8<-- [start:channels]
State = Literal["placed", "paid", "packed", "shipped"]
STREAM = "sse_broadcast:orders"  # the key in Redis
KEPT = 1000  # orders in Redis: what a worker can read later, if it was cut off
BLOCK = 2000  # milliseconds; redis-py gives up a silent answer after 5 seconds
PATIENCE = 1.0  # seconds until Redis is asked again after an error


class Order(BaseModel):
    """What the shop tells about one order."""

    id: int = Field(ge=1, lt=2**31)
    state: State


class LocalChannel:
    """The channel of a single process."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[str] = asyncio.Queue(WAITING)

    async def publish(self, order: Order) -> None:
        """Hand an order over; wait if many are on their way."""
        await self.told.put(order.model_dump_json())

    async def orders(self) -> AsyncIterator[str]:
        """Give each order as JSON, for ever."""
        while True:
            yield await self.told.get()


class RedisChannel:
    """A stream in Redis, which every worker reads from the same place on."""

    def __init__(self, client: Redis, last: str) -> None:
        self.client = client
        self.last = last  # id of the last entry that was read

    async def publish(self, order: Order) -> None:
        """Append an order; RedisError if Redis does not say that it is there."""
        entry: dict[Any, Any] = {"order": order.model_dump_json()}
        await self.client.xadd(STREAM, entry, maxlen=KEPT)

    async def orders(self) -> AsyncIterator[str]:
        """Give each order as JSON, for ever; go on where an error interrupted it."""
        while True:
            try:
                answer = await self.client.xread({STREAM: self.last}, block=BLOCK)
            except RedisError as error:
                log.warning("No orders from Redis: %s", error)
                await asyncio.sleep(PATIENCE)
                continue
            streams: list[Any] = list(answer)
            for _, entries in streams:
                for number, fields in entries:
                    self.last = number
                    yield fields["order"]


Channel = LocalChannel | RedisChannel


@asynccontextmanager
async def open_channel(url: str | None) -> AsyncIterator[Channel]:
    """Open the Redis at `url`, or do without; RedisError if there is none."""
    if not url:
        yield LocalChannel()
        return
    # An order that is sent once more after an error might be there twice.
    once = Retry(NoBackoff(), 0)
    async with Redis.from_url(url, decode_responses=True, retry=once) as client:
        newest: Any = await client.xrevrange(STREAM, count=1)
        last = newest[0][0] if newest else "0"
        yield RedisChannel(client, last)


# --8<-- [end:channels]
# --8<-- [start:tasks]
PING = 15.0  # seconds
PAUSE = 1.0  # seconds between two orders of the shop
STATES: tuple[State, ...] = ("placed", "paid", "packed", "shipped")
Listeners = set[Listener]


async def relay(channel: Channel, listeners: Listeners) -> None:
    """Write each order once, and give it to all listeners."""
    async for order in channel.orders():
        event = frame("order", order)
        for listener in listeners:
            listener.put(event)
        await asyncio.sleep(0)  # The listeners take it before the next one comes.


async def keep_alive(listeners: Listeners) -> None:
    """Ping all listeners by one timer, except those that have something to read."""
    while True:
        await asyncio.sleep(PING)
        for listener in listeners:
            if listener.waiting.empty():
                listener.put(b": ping\n\n")


async def shop(channel: Channel, listeners: Listeners) -> None:
    """Stand in for your source: tell something as long as anyone listens."""
    told = 0
    while True:
        await asyncio.sleep(PAUSE)
        if listeners:
            state = STATES[told % len(STATES)]
            await channel.publish(Order(id=told // len(STATES) + 1, state=state))
            told += 1


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """Run the tasks of this process: none of them belongs to a listener."""
    url = os.environ.get("REDIS_URL")
    listeners: Listeners = set()
    async with open_channel(url) as channel, anyio.create_task_group() as tasks:
        tasks.start_soon(relay, channel, listeners)
        tasks.start_soon(keep_alive, listeners)
        if not url:
            tasks.start_soon(shop, channel, listeners)
        yield {"channel": channel, "listeners": listeners}
        tasks.cancel_scope.cancel()


# --8<-- [end:tasks]
# --8<-- [start:endpoints]
app = FastAPI(title="sse_broadcast", lifespan=lifespan)
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


async def subscribe(request: Request) -> AsyncIterator[Listener]:
    """Add a listener; remove it as soon as its response has ended."""
    listeners: Listeners = request.state.listeners
    listener = Listener()
    listeners.add(listener)
    try:
        yield listener
    finally:
        listeners.remove(listener)


@app.get("/events")
async def events(
    listener: Annotated[Listener, Depends(subscribe)],
) -> StreamingResponse:
    """Send what happens from now on."""
    return StreamingResponse(
        listener.events(), headers=HEADERS, media_type="text/event-stream"
    )


@app.post("/orders", status_code=202)
async def tell(order: Order, request: Request) -> Order:
    """Tell all listeners of all workers about an order."""
    channel: Channel = request.state.channel
    try:
        await channel.publish(order)
    except RedisError as error:
        raise HTTPException(503, "Nobody may have been told.") from error
    return order


# --8<-- [end:endpoints]
if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8000)
