"""The recipe graceful_shutdown, which says when its streams and its lifespan end."""

import asyncio
import gc
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, nullcontext

import sse_starlette
from fastapi import FastAPI
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from recipes import graceful_shutdown as recipe
from recipes.graceful_shutdown import Order

BIG = "x" * 16 * 1024 * 1024  # the item of an order in a flood; no buffer takes it

vars(recipe)["PAUSE"] = float(os.environ.get("PAUSE", recipe.PAUSE))
for wait in ("SOONEST", "LATEST"):
    vars(recipe)[wait] = int(os.environ.get(wait, vars(recipe)[wait]))
orders_after = recipe.orders_after
own_lifespan = recipe.lifespan
streams = {"open": 0}


def say(text: str) -> None:
    """Write a line that a test waits for, with the process that says it."""
    os.write(1, f"{os.getpid()} {text}\n".encode())


async def counted(number: int) -> AsyncGenerator[Order, None]:
    """Give the orders, and say when the clean-up of a stream runs."""
    streams["open"] += 1
    say("stream opened")
    try:
        async for order in orders_after(number):
            yield order
    finally:
        streams["open"] -= 1
        say("stream closed")


async def flood(number: int) -> AsyncGenerator[Order, None]:
    """Give more than a client takes that does not read."""
    streams["open"] += 1
    say("stream opened")
    try:
        while True:
            number += 1
            say(f"order {number} is made")
            yield Order(id=number, item=BIG)
            await asyncio.sleep(0)
    finally:
        streams["open"] -= 1
        say("stream closed")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, asyncio.Event]]:
    """Say when the lifespan's shutdown begins."""
    async with own_lifespan(app) as state:
        yield state
        say(f"lifespan ends, {streams['open']} open")


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the recipe, and `/counts`."""
    if scope["type"] == "http" and scope["path"] == "/counts":
        names = [str(task.get_coro()).split(" at ")[0] for task in asyncio.all_tasks()]
        found = {"open": streams["open"], "tasks": sorted(names), "pid": os.getpid()}
        await Response(json.dumps(found))(scope, receive, send)
    else:
        await recipe.app(scope, receive, send)


def watch() -> None:
    """Put what is watched into the recipe, and leave nothing to the collector."""
    gc.disable()
    vars(recipe)["orders_after"] = counted
    recipe.app.router.lifespan_context = lifespan


def deaf() -> ASGIApp:
    """Let the streams ignore the signal."""

    async def ignore(
        _: asyncio.Event, items: AsyncGenerator[Order, None]
    ) -> AsyncGenerator[Order, None]:
        async for item in items:
            yield item

    vars(recipe)["until"] = ignore
    return app


async def ticks() -> AsyncGenerator[str, None]:
    """Make the events of a stream that only sse-starlette could end."""
    try:
        while True:
            yield "tick"
            await asyncio.sleep(recipe.PAUSE)
    finally:
        say("stream closed")


def theirs() -> ASGIApp:
    """Add a stream that leaves the end to sse-starlette."""

    async def stream() -> sse_starlette.EventSourceResponse:
        return sse_starlette.EventSourceResponse(ticks())

    recipe.app.get("/theirs")(stream)
    return app


def unchained() -> ASGIApp:
    """Do the same, and let nobody take uvicorn's place at the signal."""
    vars(recipe)["hearing_signals"] = lambda _: nullcontext()
    return theirs()


def flooding() -> ASGIApp:
    """Give the recipe orders for which a client can be too slow."""
    vars(recipe)["orders_after"] = flood
    return app


watch()
