"""The recipe sse_disconnect without a garbage collector; it tells what is left."""

import asyncio
import gc
import os
import sys
from pathlib import Path
from types import AsyncGeneratorType, SimpleNamespace

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from recipes import sse_disconnect

gc.disable()
sse_disconnect.BOOK = Path(os.environ["BOOK"])
for name in ("PAUSE", "LIFETIME", "STALL", "PLACES"):
    if name in os.environ:
        setattr(sse_disconnect, name, float(os.environ[name]))


def left() -> dict[str, int]:
    """Count what a request may leave behind; the one that asks has its own.

    An endpoint's own generator is counted apart: the recipe's holds nothing.
    """
    found = [it for it in gc.get_objects() if isinstance(it, AsyncGeneratorType)]
    alive = [it.ag_code for it in found if it.ag_frame is not None]
    endpoints = alive.count(sse_disconnect.native.__code__)
    descriptors = [target(fd) for fd in Path("/proc/self/fd").iterdir()]
    return {
        "generators": len(alive) - endpoints,
        "endpoints": endpoints,
        "tasks": len(asyncio.all_tasks()),
        "sockets": sum(fd.startswith("socket:") for fd in descriptors),
        "places": len(sse_disconnect.visits),
        "pid": os.getpid(),
    }


def target(descriptor: Path) -> str:
    """Say what a file descriptor is; nothing if a thread has closed it just now."""
    try:
        return str(descriptor.readlink())
    except FileNotFoundError:
        return ""


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the recipe, and at /left what it has left behind."""
    if scope["type"] == "http" and scope["path"] == "/left":
        if scope["query_string"] == b"collect":
            gc.collect()
        await JSONResponse(left())(scope, receive, send)
    else:
        await sse_disconnect.app(scope, receive, send)


def slow_book() -> ASGIApp:
    """Give the recipe a book that takes its time."""

    async def write_down(_: sse_disconnect.Visit) -> None:
        sys.stdout.write("begun\n")
        await asyncio.sleep(1)
        sys.stdout.write("written\n")

    vars(sse_disconnect)["write_down"] = write_down
    return app


def flooding() -> ASGIApp:
    """Give the recipe orders that are too big for a client that does not read."""
    big = SimpleNamespace(dumps=lambda _: "x" * 300_000)
    vars(sse_disconnect)["json"] = big
    return app


async def flooded(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve it flooding, for a server that calls no factory."""
    await flooding()(scope, receive, send)
