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
          curl -X POST http://127.0.0.1:8000/orders/7/paid
"""

import asyncio
import logging
import os
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

import anyio
import uvicorn
from fastapi import FastAPI, HTTPException, Path, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

log = logging.getLogger("uvicorn.error")  # what uvicorn shows on the console


# --8<-- [start:feed]
LATEST = 100  # events that are kept: how far a listener may be behind
RETRY = 2000  # milliseconds that a browser waits before it connects again


def frame(event: str, data: str) -> bytes:
    """Write one event; `data` is JSON, so it is one line."""
    return f"event: {event}\ndata: {data}\n\n".encode()


class Feed:
    """The latest events, written once for all listeners.

    A listener is a place in the feed: the number of events that came before.
    """

    def __init__(self) -> None:
        self.latest: deque[bytes] = deque(maxlen=LATEST)  # drops the oldest by itself
        self.end = 0  # how many events there have been
        self.asleep: set[asyncio.Future[bytes]] = set()  # one for a waiting listener

    def add(self, event: bytes) -> None:
        """Keep an event, and wake all who wait for it; this waits for nobody."""
        self.latest.append(event)
        self.end += 1
        self.wake(b"")

    def wake(self, comment: bytes) -> None:
        """Wake those who wait, and let them send a comment."""
        for future in self.asleep:
            if not future.done():  # Its client may be leaving.
                future.set_result(comment)

    async def sleep(self) -> bytes:
        """Wait until `wake` is called; give its comment."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bytes] = loop.create_future()
        self.asleep.add(future)
        try:
            return await future
        finally:
            self.asleep.remove(future)

    async def events(self, place: int) -> AsyncIterator[bytes]:
        """Give the events from a place on; say where some are missing, and how many."""
        yield f"retry: {RETRY}\n\n".encode()
        while True:
            missed = self.end - len(self.latest) - place
            if place == self.end:
                comment = await self.sleep()
                if comment:
                    yield comment
            elif missed > 0:
                place += missed
                yield frame("missed", f'{{"events":{missed}}}')
            else:
                event = self.latest[place - self.end]  # counted from the right
                place += 1
                yield event


# --8<-- [end:feed]
# --8<-- [start:channels]
State = Literal["placed", "paid", "packed", "shipped"]
STREAM = "sse_broadcast:orders"  # the key in Redis
KEPT = 1000  # orders in Redis, about: what a worker that was cut off can still read
BLOCK = 2000  # milliseconds; redis-py gives up a silent answer after 5 seconds
PATIENCE = 1.0  # seconds until Redis is asked again after an error


class Order(BaseModel):
    """What the shop tells about one order."""

    id: int
    state: State


class LocalChannel:
    """The channel of a single process."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[str] = asyncio.Queue(LATEST)

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


async def relay(channel: Channel, feed: Feed) -> None:
    """Write each order once, for all listeners."""
    async for order in channel.orders():
        feed.add(frame("order", order))
        await asyncio.sleep(0)  # The listeners take it before the next one comes.
        await asyncio.sleep(0)  # They wait: one whose client has left is cancelled.


async def keep_alive(feed: Feed) -> None:
    """Ping all idle listeners by one timer."""
    while True:
        await asyncio.sleep(PING)
        feed.wake(b": ping\n\n")


async def shop(channel: Channel, feed: Feed) -> None:
    """Stand in for your source: tell something as long as anyone listens."""
    told = 0
    while True:
        await asyncio.sleep(PAUSE)
        if feed.asleep:
            state = STATES[told % len(STATES)]
            await channel.publish(Order(id=told // len(STATES) + 1, state=state))
            told += 1


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """Run the tasks of this process: none of them belongs to a listener."""
    url = os.environ.get("REDIS_URL")
    feed = Feed()
    async with open_channel(url) as channel, anyio.create_task_group() as tasks:
        tasks.start_soon(relay, channel, feed)
        tasks.start_soon(keep_alive, feed)
        if not url:
            tasks.start_soon(shop, channel, feed)
        yield {"channel": channel, "feed": feed}
        tasks.cancel_scope.cancel()


# --8<-- [end:tasks]
# --8<-- [start:endpoints]
app = FastAPI(title="sse_broadcast", lifespan=lifespan)
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@app.get("/events")
async def events(request: Request) -> StreamingResponse:
    """Send what happens from now on."""
    feed: Feed = request.state.feed
    return StreamingResponse(
        feed.events(feed.end), headers=HEADERS, media_type="text/event-stream"
    )


@app.post("/orders/{number}/{state}", status_code=202)
async def tell(
    number: Annotated[int, Path(ge=1, lt=2**31)], state: State, request: Request
) -> Order:
    """Tell all listeners of all workers that an order has a new state."""
    channel: Channel = request.state.channel
    order = Order(id=number, state=state)
    try:
        await channel.publish(order)
    except RedisError as error:
        raise HTTPException(503, "Nobody may have been told.") from error
    return order


# --8<-- [end:endpoints]
if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8000)
