"""The recipe stream_middleware, counted: which feeds are open, and which tasks run."""

import asyncio
import gc
import json
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from recipes import stream_middleware as recipe
from recipes.stream_middleware import Order

BIG = 1024 * 1024  # characters of an order in a flood

vars(recipe)["PAUSE"] = float(os.environ.get("PAUSE", recipe.PAUSE))
all_orders = recipe.all_orders
feeds = {"open": 0}


async def counted(fail_at: int) -> AsyncGenerator[Order, None]:
    """Give the orders, and count the feeds that are open."""
    feeds["open"] += 1
    try:
        async with aclosing(all_orders(fail_at)) as orders:
            async for order in orders:
                yield order
    finally:
        feeds["open"] -= 1


async def flood(_: int) -> AsyncGenerator[Order, None]:
    """Give more than a client takes that does not read."""
    feeds["open"] += 1
    try:
        for number in range(1000):
            yield Order(id=number, item=os.urandom(BIG // 2).hex())
            await asyncio.sleep(0)
    finally:
        feeds["open"] -= 1


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the recipe, and `/counts`."""
    if scope["type"] == "http" and scope["path"] == "/counts":
        names = [str(task.get_coro()).split(" at ")[0] for task in asyncio.all_tasks()]
        found = {"feeds": feeds["open"], "tasks": sorted(names), "pid": os.getpid()}
        await Response(json.dumps(found))(scope, receive, send)
    else:
        await recipe.app(scope, receive, send)


def uncollected() -> ASGIApp:
    """Count the feeds, and leave nothing to the garbage collector."""
    gc.disable()
    vars(recipe)["all_orders"] = counted
    return app


def flooding() -> ASGIApp:
    """Give the recipe a feed for which a client can be too slow."""
    gc.disable()
    vars(recipe)["all_orders"] = flood
    return app
