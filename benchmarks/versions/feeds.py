"""The same events in five formats, without a pause."""

from collections.abc import AsyncIterator

from fastapi import FastAPI, WebSocket
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel

app = FastAPI()


class Change(BaseModel):
    """What has happened to an order."""

    id: int
    order: int
    state: str


async def changes(events: int) -> AsyncIterator[Change]:
    """Give so many changes."""
    for number in range(1, events + 1):
        yield Change(id=number, order=7, state="placed")


async def texts(events: int, end: str) -> AsyncIterator[str]:
    """Write each change as text, with an end of its own."""
    async for change in changes(events):
        yield change.model_dump_json() + end


@app.get("/plain")
async def plain(events: int) -> StreamingResponse:
    """Send bare text; nothing says where a change ends."""
    return StreamingResponse(texts(events, ""), media_type="text/plain")


@app.get("/ndjson-by-hand")
async def ndjson_by_hand(events: int) -> StreamingResponse:
    """Send lines that are written here."""
    lines = texts(events, "\n")
    return StreamingResponse(lines, media_type="application/x-ndjson")


@app.get("/ndjson")
async def ndjson(events: int) -> AsyncIterator[Change]:
    """Let FastAPI write the lines."""
    async for change in changes(events):
        yield change


async def framed(events: int) -> AsyncIterator[str]:
    """Write each change as an event."""
    async for change in changes(events):
        data = change.model_dump_json()
        yield f"event: change\ndata: {data}\nid: {change.id}\n\n"


@app.get("/sse-by-hand")
async def sse_by_hand(events: int) -> StreamingResponse:
    """Send events that are written here."""
    return StreamingResponse(framed(events), media_type="text/event-stream")


@app.get("/sse", response_class=EventSourceResponse)
async def sse(events: int) -> AsyncIterator[ServerSentEvent]:
    """Let FastAPI write the events."""
    async for change in changes(events):
        yield ServerSentEvent(data=change, event="change", id=str(change.id))


@app.websocket("/websocket")
async def websocket(socket: WebSocket, events: int) -> None:
    """Send each change as a message."""
    await socket.accept()
    async for text in texts(events, ""):
        await socket.send_text(text)
    await socket.close()
