"""The recipe sse_keepalive, counted: which feeds are open, and which tasks run."""

import asyncio
import gc
import json
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import anyio
import fastapi.routing
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from recipes import sse_keepalive
from recipes.sse_keepalive import Order, Pinged

WATCHER = "_shutdown_watcher"  # sse-starlette's: one a process, whoever is connected
BIG = 8 * 1024 * 1024  # characters, more than the buffers of a connection hold

order_states = sse_keepalive.order_states
feeds = {"open": 0}
over = {"requests": 0}


def tell(line: str) -> None:
    """Write a line at once: some servers' workers keep it back otherwise."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def counted(quiet: float) -> AsyncGenerator[Order, None]:
    """Tell the states, and count the feeds that are open."""
    feeds["open"] += 1
    try:
        async with aclosing(order_states(quiet)) as states:
            async for order in states:
                tell(order.state)
                yield order
    finally:
        feeds["open"] -= 1


async def flood(_: float) -> AsyncGenerator[Order, None]:
    """Tell more than a client takes that does not read."""
    feeds["open"] += 1
    try:
        for number in range(100):
            tell(f"state {number}")
            yield Order(id=number, state="x" * BIG)
            await asyncio.sleep(0)  # A feed that never waits cannot be cancelled.
    finally:
        feeds["open"] -= 1


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the recipe, and `/counts`; tell the number of each request that is over."""
    if scope["type"] != "http":
        await sse_keepalive.app(scope, receive, send)
        return
    if scope["path"] == "/counts":
        await Response(counts())(scope, receive, send)
        return
    try:
        await sse_keepalive.app(scope, receive, send)
    finally:
        over["requests"] += 1
        tell(f"over {over['requests']}.")


def counts() -> str:
    """Say how many feeds are open, and which tasks run."""
    running = [str(task.get_coro()).split(" at ")[0] for task in asyncio.all_tasks()]
    tasks = sorted(name for name in running if WATCHER not in name)
    return json.dumps({"feeds": feeds["open"], "tasks": tasks, "worker": os.getpid()})


def uncollected() -> ASGIApp:
    """Count the feeds, and leave nothing to the garbage collector."""
    gc.disable()
    vars(sse_keepalive)["order_states"] = counted
    return app


def flooding() -> ASGIApp:
    """Give the recipe a feed for which a client can be too slow."""
    gc.disable()
    vars(sse_keepalive)["order_states"] = flood
    return app


def impatient() -> ASGIApp:
    """Let FastAPI ping ten times a second; its 15 seconds are no setting."""
    vars(fastapi.routing)["_PING_INTERVAL"] = 0.1
    return sse_keepalive.app


def silent() -> ASGIApp:
    """Give the recipe a feed that tells one state, and then nothing, not even pings."""

    async def first_only(orders: AsyncIterator[Order], _: float) -> Pinged:
        yield await anext(orders)
        await anyio.sleep_forever()

    vars(sse_keepalive)["with_pings"] = first_only
    return sse_keepalive.app


def short() -> ASGIApp:
    """Give the recipe a feed that stops before its end."""

    async def first(_: float) -> AsyncGenerator[Order, None]:
        yield Order(id=7, state="placed")

    vars(sse_keepalive)["order_states"] = first
    return sse_keepalive.app


def asking() -> ASGIApp:
    """End each feed after its first state, and tell which event a client saw last."""
    events = 'retry: 50\nid: placed\nevent: order\ndata: {"state": "placed"}\n\n'

    async def told(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/by-hand":
            tell(f"seen: {dict(scope['headers']).get(b'last-event-id')}")
            answer = Response(events, media_type="text/event-stream")
            await answer(scope, receive, send)
        else:
            await sse_keepalive.app(scope, receive, send)

    return told
