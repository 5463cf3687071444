"""Serve the built site and every recipe in one process."""

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import Any, cast

import uvicorn
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cookbook.catalog import ROOT, recipes
from cookbook.llm import provider

BUILT = ROOT / "site"
Lifespan = AbstractAsyncContextManager[Mapping[str, Any] | None]
SOURCES = ("mkdocs.yml", "docs", "recipes", "tests", "notebooks")  # what pages include


def is_stale() -> bool:
    """Tell whether a page, or a file that a page includes, is newer than the site."""
    if not (BUILT / "index.html").exists():
        return True
    built = (BUILT / "index.html").stat().st_mtime
    tops = [ROOT / name for name in SOURCES]
    # Directories do not count: the first import of a recipe changes its directory.
    return any(
        path.stat().st_mtime > built
        for top in tops
        for path in [top, *top.rglob("*")]
        if path.is_file() and "__pycache__" not in path.parts
    )


def build() -> None:
    """Build the site, strictly. Raises RuntimeError with what mkdocs said."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    # Without the theme's notice, so that an error is the first thing to be read.
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)


class Mounted:
    """A recipe below `/live/`, given the state of its own lifespan."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self.state: dict[str, Any] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        own = {**scope, "state": dict(self.state)}
        # Without these two `request.url_for` would search the site's routes.
        for key in ("router", "app_root_path"):
            own.pop(key, None)
        await self.app(own, receive, send)


class HangUp:
    """Tell every open request, when the server is to stop, that its client has gone.

    A stream that never ends would keep uvicorn from stopping; one whose client has gone
    is cancelled by the framework and cleans up.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.stopping = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or run the lifespan."""

        async def receive_or_stop() -> Message:
            message = asyncio.ensure_future(receive())
            stop = asyncio.ensure_future(self.stopping.wait())
            try:
                await asyncio.wait([message, stop], return_when=asyncio.FIRST_COMPLETED)
                gone: Message = {"type": "http.disconnect"}
                return message.result() if message.done() else gone
            finally:
                message.cancel()
                stop.cancel()

        http = scope["type"] == "http"
        await self.app(scope, receive_or_stop if http else receive, send)


def create_app(site: Path = BUILT) -> HangUp:
    """Put the site at `/` and each recipe at `/live/<slug>/`, lifespans included."""
    mounted = {recipe.slug: Mounted(recipe.load()) for recipe in recipes()}

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for recipe in mounted.values():
                context = recipe.app.router.lifespan_context(recipe.app)
                state = await stack.enter_async_context(cast(Lifespan, context))
                recipe.state = dict(state or {})
            yield

    def with_slash(request: Request) -> Response:
        return RedirectResponse(f"{request.url.path.rpartition('/')[2]}/")

    def index(_: Request) -> Response:
        who = provider.current()
        public = ("kind", "description", "model")
        answers = {name: getattr(who, name) for name in public} if who else None
        return JSONResponse({"recipes": list(mounted), "provider": answers})

    routes = [
        Route("/live/index.json", index),
        *(Route(f"/live/{slug}", with_slash) for slug in mounted),
        *(Mount(f"/live/{slug}", app) for slug, app in mounted.items()),
        Mount("/", StaticFiles(directory=site, html=True)),
    ]
    return HangUp(Starlette(routes=routes, lifespan=lifespan))


class Server(uvicorn.Server):
    """A uvicorn that ends open streams when it is told to stop."""

    def __init__(self, app: HangUp, log_level: str = "warning") -> None:
        config = uvicorn.Config(app, log_level=log_level)
        # The backstop for a recipe that does not mind its client leaving.
        config.timeout_graceful_shutdown = 1  # seconds
        super().__init__(config)
        self.hang_up = app
        self.loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to serve, and remember on which loop."""
        self.loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop on Ctrl-C or SIGTERM."""
        # What is cut short now is cut short on purpose, and no error worth a line.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        if self.loop:
            self.loop.call_soon_threadsafe(self.hang_up.stopping.set)
        super().handle_exit(sig, frame)
