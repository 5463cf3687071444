# /// script
# requires-python = ">=3.11"
# dependencies = ["anyio>=4.16", "fastapi>=0.165", "uvicorn>=0.54"]
# [tool.cookbook]
# application = true
# ///
"""Notify a user: a snapshot first, then every change, on one stream of typed events.

Run it:   uvicorn recipes.sse_notifications:app
Try it:   curl -N --max-time 60 http://127.0.0.1:8000/users/ada/events
          curl http://127.0.0.1:8000/users/ada/orders/7 --json '{"state": "paid"}'
          curl http://127.0.0.1:8000/users/ada/messages --json '{"text": "Ring twice."}'
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import anyio
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.exception_handlers import request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field

HEARTBEAT = 1.0  # seconds of silence; short, so that you see it: 10 is enough
WAITING = 100  # changes that may wait for one stream
KEPT = 20  # messages that a snapshot holds
BODY = 16_000  # bytes of a request


# --8<-- [start:models]
State = Literal["placed", "paid", "packed", "shipped"]


class Order(BaseModel):
    """What the shop tells about one order."""

    id: int
    item: str
    state: State


class Init(BaseModel):
    """All that a user's page shows; `version` counts the changes up to here."""

    type: Literal["init"]
    version: int
    orders: list[Order]
    messages: list[str]


class OrderChanged(BaseModel):
    """The change that led to this version: an order, as it is now."""

    type: Literal["order_changed"]
    version: int
    order: Order


class Message(BaseModel):
    """The change that led to this version: a message to the user."""

    type: Literal["message"]
    version: int
    text: str


class Heartbeat(BaseModel):
    """Nothing has happened since the stream sent this version."""

    type: Literal["heartbeat"]
    version: int


Change = OrderChanged | Message
Event = Annotated[
    Init | OrderChanged | Message | Heartbeat, Field(discriminator="type")
]


# --8<-- [end:models]
# --8<-- [start:channel]
START = None  # stands in a queue where the stream has to read the snapshot
Queue = asyncio.Queue[Change | None]


class Channel:
    """The open streams of one user; each has a queue of its own."""

    def __init__(self) -> None:
        self.queues: set[Queue] = set()

    def publish(self, change: Change) -> None:
        """Hand a change to every stream; this waits for none of them."""
        for queue in self.queues:
            if queue.full():
                # Its client reads too slowly. A snapshot will stand for all of these.
                while not queue.empty():
                    queue.get_nowait()
                queue.put_nowait(START)
            else:
                queue.put_nowait(change)

    @contextmanager
    def subscribed(self) -> Iterator[Queue]:
        """Give a queue that gets every change, until the block ends."""
        queue = Queue(WAITING)
        queue.put_nowait(START)
        self.queues.add(queue)
        try:
            yield queue
        finally:
            self.queues.remove(queue)


class Account:
    """One user's orders and messages; a database of yours goes here.

    The methods are `async` as those of a database are. Each tells the channel what has
    changed, after it has changed.
    """

    def __init__(self, *orders: Order) -> None:
        self.version = 0
        self.orders = {order.id: order for order in orders}
        self.messages: deque[str] = deque(maxlen=KEPT)
        self.channel = Channel()

    async def read(self) -> Init:
        """Give everything, as it is now."""
        orders = list(self.orders.values())
        messages = list(self.messages)
        return Init(type="init", version=self.version, orders=orders, messages=messages)

    async def change_order(self, number: int, state: State) -> OrderChanged:
        """Put an order into a state; KeyError if there is no such order."""
        order = self.orders[number].model_copy(update={"state": state})
        self.orders[number] = order
        self.version += 1
        change = OrderChanged(type="order_changed", version=self.version, order=order)
        self.channel.publish(change)
        return change

    async def add_message(self, text: str) -> Message:
        """Keep a message."""
        self.messages.append(text)
        self.version += 1
        change = Message(type="message", version=self.version, text=text)
        self.channel.publish(change)
        return change


# --8<-- [end:channel]
# --8<-- [start:follow]
async def follow(account: Account, queue: Queue) -> AsyncGenerator[Event, None]:
    """Give the snapshot, then each change that is not in it yet, for ever.

    `queue` gets the account's changes already, or one could be lost in between.
    """
    version = 0
    while True:
        try:
            async with asyncio.timeout(HEARTBEAT):
                change = await queue.get()
        except TimeoutError:
            yield Heartbeat(type="heartbeat", version=version)
            continue
        if change is START or change.version > version + 1:
            # The stream begins, or changes are missing: tell everything anew.
            snapshot = await account.read()
            version = snapshot.version
            yield snapshot
        elif change.version == version + 1:
            version = change.version
            yield change
        # What is left is a change that the snapshot already holds.


# --8<-- [end:follow]
# --8<-- [start:application]
@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """Open two accounts, in the memory of this process."""
    ada = Account(
        Order(id=7, item="green tea", state="placed"),
        Order(id=8, item="honey", state="shipped"),
    )
    zoe = Account(Order(id=9, item="tea pot", state="paid"))
    yield {"accounts": {"ada": ada, "zoe": zoe}}


app = FastAPI(title="sse_notifications", lifespan=lifespan, max_body_size=BODY)


@app.exception_handler(RequestValidationError)
async def refuse(request: Request, error: RequestValidationError) -> JSONResponse:
    """Say what is wrong, but repeat nothing: half a character cannot be sent back."""
    for wrong in error.errors():
        del wrong["input"]
    return await request_validation_exception_handler(request, error)


async def account_of(name: str, request: Request) -> Account:
    """Find the account, or answer 404; your check of who asks goes here."""
    account: Account | None = request.state.accounts.get(name)
    if account is None:
        raise HTTPException(404, "There is no such user.")
    return account


Asked = Annotated[Account, Depends(account_of)]


async def open_feed(account: Asked) -> AsyncIterator[AsyncIterator[Event]]:
    """Subscribe first, and end the subscription when the response has ended."""
    with account.channel.subscribed() as queue:
        async with aclosing(follow(account, queue)) as feed:
            try:
                yield feed
            except* anyio.BrokenResourceError:
                pass  # An event was waiting for a client that is gone.


Feed = Annotated[AsyncIterator[Event], Depends(open_feed)]


# --8<-- [end:application]
# --8<-- [start:endpoints]
def kind(name: str, model: str) -> dict[str, Any]:
    """Describe one kind of event for OpenAPI: its name, and the model of its data."""
    schema = {"$ref": f"#/components/schemas/{model}"}
    data = {"contentMediaType": "application/json", "contentSchema": schema}
    return {"properties": {"event": {"const": name}, "data": data}}


KINDS = [
    kind("init", "Init"),
    kind("order_changed", "OrderChanged"),
    kind("message", "Message"),
    kind("heartbeat", "Heartbeat"),
]
ITEM = {"required": ["event", "data"], "oneOf": KINDS}
NAMED: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"itemSchema": ITEM}}}
}


@app.get("/users/{name}/events", response_class=EventSourceResponse, responses=NAMED)
async def events(feed: Feed) -> AsyncIterator[ServerSentEvent]:
    """Send events with names: a browser has a listener for each."""
    async for event in feed:
        yield ServerSentEvent(data=event, event=event.type)


@app.get("/users/{name}/models", response_class=EventSourceResponse)
async def models(feed: Feed) -> AsyncIterator[Event]:
    """Send the models without names: FastAPI documents and checks them."""
    async for event in feed:
        yield event


class NewState(BaseModel, extra="forbid"):
    """What a client sends to change an order."""

    state: State


class NewMessage(BaseModel, extra="forbid"):
    """What a client sends to tell the user something."""

    text: str = Field(min_length=1, max_length=500)


@app.post("/users/{name}/orders/{number}")
async def change_order(account: Asked, number: int, new: NewState) -> OrderChanged:
    """Change an order; all streams of its user are told."""
    if number not in account.orders:
        raise HTTPException(404, "There is no such order.")
    return await account.change_order(number, new.state)


@app.post("/users/{name}/messages", status_code=201)
async def add_message(account: Asked, new: NewMessage) -> Message:
    """Send a message; all streams of its user are told."""
    return await account.add_message(new.text)


# --8<-- [end:endpoints]
@app.get("/")
def page() -> FileResponse:
    """Show ada's account in a browser."""
    return FileResponse(Path(__file__).with_suffix(".html"))


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8000)
