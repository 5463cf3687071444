"""The recipe sse_disconnect without a garbage collector; it tells what is left."""

import asyncio
import gc
from pathlib import Path
from types import AsyncGeneratorType

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from recipes import sse_disconnect

gc.disable()


def left() -> dict[str, int]:
    """Count what a request may leave behind, apart from the one that asks."""
    found = [it for it in gc.get_objects() if isinstance(it, AsyncGeneratorType)]
    fds = Path("/proc/self/fd").iterdir()
    links = [str(fd.readlink()) for fd in fds if fd.is_symlink()]
    return {
        "generators": sum(it.ag_frame is not None for it in found),
        "tasks": len(asyncio.all_tasks()),
        "sockets": sum(link.startswith("socket:") for link in links),
        "places": len(sse_disconnect.visits),
    }


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the recipe, and at /left what it has left behind."""
    if scope["type"] == "http" and scope["path"] == "/left":
        await JSONResponse(left())(scope, receive, send)
    else:
        await sse_disconnect.app(scope, receive, send)
