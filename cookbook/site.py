"""Serve the built site and every recipe in one process."""

import hashlib
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import uvicorn
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from cookbook.catalog import ROOT, recipes
from cookbook.llm import provider

BUILT = ROOT / "site"
Lifespan = AbstractAsyncContextManager[Mapping[str, Any] | None]
HOSTS = ["127.0.0.1", "localhost"]
STAMP = ".made-from"  # in the built site: what it was made from
SOURCES = ("mkdocs.yml", "docs", "recipes", "tests", "notebooks")  # what pages include


def fingerprint() -> str:
    """Sum up every file that the site is made from: its path, size and time."""
    files = [p for top in SOURCES for p in [ROOT / top, *(ROOT / top).rglob("*")]]
    known = [(p, p.stat()) for p in sorted(files) if p.is_file()]
    lines = [
        f"{path.relative_to(ROOT)} {about.st_size} {about.st_mtime_ns}"
        for path, about in known
        if "__pycache__" not in path.parts
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def is_stale() -> bool:
    """Tell whether the site was built from other files than there are now."""
    stamp = BUILT / STAMP
    return not stamp.exists() or stamp.read_text("utf-8") != fingerprint()


def build() -> None:
    """Build the site, strictly. Raises RuntimeError with what mkdocs said.

    What was there is replaced only by a site that is whole.
    """
    made_from = fingerprint()
    with tempfile.TemporaryDirectory(dir=ROOT, prefix=".site-") as folder:
        # Not --quiet: with it mkdocs no longer counts the warnings that --strict means.
        command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", folder]
        # Without the theme's notice, so that an error is the first thing to be read.
        quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
        done = subprocess.run(
            command, cwd=ROOT, env=quiet, capture_output=True, text=True
        )
        if done.returncode:
            said = (done.stdout + done.stderr).splitlines()
            raise RuntimeError("\n".join(x for x in said if not x.startswith("INFO")))
        (Path(folder) / STAMP).write_text(made_from, "utf-8")
        shutil.rmtree(BUILT, ignore_errors=True)
        shutil.copytree(folder, BUILT)


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


def create_app(site: Path = BUILT) -> Starlette:
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
        slug, query = request.url.path.rpartition("/")[2], request.url.query
        return RedirectResponse(f"{slug}/?{query}".rstrip("?"))

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
    # A page elsewhere whose name is made to mean this machine gets nothing from it.
    only_here = Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)
    return Starlette(routes=routes, lifespan=lifespan, middleware=[only_here])


class Server(uvicorn.Server):
    """A uvicorn that ends open streams when it is told to stop."""

    def __init__(self, app: ASGIApp, log_level: str = "warning") -> None:
        config = uvicorn.Config(app, log_level=log_level)
        # The backstop for a recipe that does not mind its client leaving.
        config.timeout_graceful_shutdown = 1  # seconds
        super().__init__(config)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Hang up on every client, so that each stream is cancelled and cleans up."""
        # What is cut short now is cut short on purpose, and no error worth a line.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await super().shutdown(sockets)
