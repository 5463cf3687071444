"""Tell what happens to an order, over a WebSocket.

Run it:   uvicorn docs.learn.feed_websocket:app
"""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from fastapi import (
    Depends,
    FastAPI,
    WebSocket,
    WebSocketDisconnect,
    WebSocketException,
)
from pydantic import BaseModel

app = FastAPI(title="feed_websocket")

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
async def same_origin(socket: WebSocket) -> None:
    """Refuse the pages of other sites: for a WebSocket no browser does it."""
    origin = socket.headers.get("origin", "")
    if origin and urlsplit(origin).netloc != socket.headers.get("host"):
        raise WebSocketException(1008, "This feed is for our own pages.")


async def send_changes(socket: WebSocket, after: int) -> None:
    """Send each change as a message, and close the connection after the last one."""
    async for change in changes(after):
        await socket.send_text(change.model_dump_json())
    await socket.close(1000)


async def until_it_leaves(socket: WebSocket) -> None:
    """Read what the client sends, which is nothing here, until it has left."""
    message = await socket.receive()
    while message["type"] != "websocket.disconnect":
        message = await socket.receive()


@app.websocket("/feed", dependencies=[Depends(same_origin)])
async def feed(socket: WebSocket, after: int = 0) -> None:
    """Send the changes while the client is there."""
    await socket.accept()
    try:
        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(send_changes(socket, after))
            await until_it_leaves(socket)
            sending.cancel()
    except* WebSocketDisconnect:
        pass  # It left while a change was on its way.


# --8<-- [end:feed]
