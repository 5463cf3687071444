"""The recipe typed_client, led by the test: what comes when, and what goes wrong."""

import asyncio
import os
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import Request
from fastapi.staticfiles import StaticFiles
from starlette.types import Message, Receive, Scope, Send

from recipes import typed_client
from recipes.typed_client import Numbered

typed_client.PAUSE = 0
order_events = typed_client.order_events
asked: list[str] = []  # the Last-Event-ID of each request for a stream
state = {"open": 0, "most": 0, "allowed": 9}
moved = asyncio.Condition()
faults = deque[dict[str, Any]]()  # one for each of the next requests


async def led(seen: int) -> AsyncGenerator[Numbered, None]:
    """Give an event when the test allows its number."""
    state["open"] += 1
    state["most"] = max(state["most"], state["open"])
    try:
        async for number, event in order_events(seen):
            async with moved:
                while number > state["allowed"]:
                    await moved.wait()
            yield number, event
    finally:
        state["open"] -= 1


typed_client.order_events = led
recipe = typed_client.app


@recipe.post("/plan")
async def plan(request: Request) -> None:
    """Begin anew: what is allowed, and the faults of the next requests."""
    told = await request.json()
    asked.clear()
    faults.clear()
    faults.extend(told.get("faults", []))
    state["most"] = state["open"]
    async with moved:
        state["allowed"] = told.get("allowed", 9)
        moved.notify_all()


@recipe.post("/allow/{number}")
async def allow(number: int) -> None:
    """Let the events up to this number come."""
    async with moved:
        state["allowed"] = number
        moved.notify_all()


@recipe.get("/counts")
async def counts() -> dict[str, Any]:
    """Tell what was asked, which streams are open, and which tasks run."""
    tasks = len(asyncio.all_tasks())
    return {"asked": asked, "tasks": tasks, **state}


if page := os.environ.get("PAGE"):
    recipe.mount("/", StaticFiles(directory=page, html=True))


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the recipe, with the fault that the test has planned for this request."""
    if not scope.get("path", "").startswith("/orders/"):
        await recipe(scope, receive, send)
        return
    sent = dict(scope["headers"])
    asked.append(sent.get(b"last-event-id", b"").decode("latin-1"))
    fault = faults.popleft() if faults else {}
    if "cut" in fault:
        await recipe(scope, receive, cutting(send, fault["cut"]))
    elif "body" in fault or "status" in fault:
        kind = fault.get("type", "text/event-stream").encode()
        head = {
            "status": fault.get("status", 200),
            "headers": [(b"content-type", kind)],
        }
        await send({"type": "http.response.start", **head})
        body = fault.get("body", "").encode()
        await send({"type": "http.response.body", "body": body})
    else:
        await recipe(scope, receive, send)


def cutting(send: Send, size: int) -> Send:
    """End the body after so many bytes, as a proxy does: it looks complete."""
    left = [size]

    async def cut(message: Message) -> None:
        if message["type"] == "http.response.body" and left[0] >= 0:
            body = message.get("body", b"")[: left[0]]
            left[0] -= len(message.get("body", b""))
            more = left[0] > 0 and message.get("more_body", False)
            await send({**message, "body": body, "more_body": more})
            left[0] = left[0] if more else -1
        elif message["type"] != "http.response.body":
            await send(message)

    return cut
