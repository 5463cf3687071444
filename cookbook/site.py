"""Serve the built site and every recipe in one process."""

import contextlib
import hashlib
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from pathlib import Path
from typing import Any, cast

import uvicorn
from anyio import BrokenResourceError
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import (
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
)
from starlette.routing import Match, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from cookbook import catalog
from cookbook.api_docs import OwnDocs
from cookbook.catalog import ROOT, Pitfall, Recipe, recipes
from cookbook.curl import Request as Asked
from cookbook.llm import provider
from cookbook.museum import Museum

BUILT = ROOT / "site"
Lifespan = AbstractAsyncContextManager[Mapping[str, Any] | None]
log = logging.getLogger(__name__)
HOSTS = ["127.0.0.1", "localhost"]
BODY = 2000  # bytes of a pitfall's request, at most; every panel is told of them
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
    """Tell whether the site was built from other files than there are now.

    The site that a wheel carries is never stale: there is nothing to build it from.
    """
    if BUILT.is_dir() and not can_be_built():
        return False
    stamp = BUILT / STAMP
    return not stamp.exists() or stamp.read_text("utf-8") != fingerprint()


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl+C does: what it started is ended, too."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def can_be_built() -> bool:
    """Tell whether this is a clone of the repository, and no wheel without a site."""
    return not catalog.CARRIED


def build() -> None:
    """Build the site, strictly. Raises RuntimeError with what mkdocs said.

    What was there is replaced only by a site that is whole. Where two processes build
    at once, each in a folder of its own, one of the two results stays.
    """
    made_from = fingerprint()
    with tempfile.TemporaryDirectory(dir=ROOT, prefix=".site-") as folder:
        new, old = Path(folder) / "new", Path(folder) / "old"
        # Not --quiet: with it mkdocs no longer counts the warnings that --strict means.
        command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(new)]
        # Without the theme's notice, so that an error is the first thing to be read.
        quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
        done = subprocess.run(
            command, cwd=ROOT, env=quiet, capture_output=True, text=True
        )
        if done.returncode:
            said = (done.stdout + done.stderr).splitlines()
            raise RuntimeError("\n".join(x for x in said if not x.startswith("INFO")))
        (new / STAMP).write_text(made_from, "utf-8")
        # A folder is moved in one step; somebody else may have moved theirs meanwhile.
        with contextlib.suppress(FileNotFoundError):
            BUILT.rename(old)
        with contextlib.suppress(OSError):
            new.rename(BUILT)


def in_words(error: BaseException) -> str:
    """Say in one line what a recipe's author did wrong."""
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


class Mounted:
    """A recipe below `/live/`, given the state of its own lifespan.

    A recipe that does not run answers 503 with its `problem`; the others go on.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.problem = recipe.problem
        self.state: dict[str, Any] = {}
        self.app = FastAPI()
        self.lifespan: Lifespan | None = None
        if self.problem:
            return
        try:
            self.app = recipe.load()
        except (Exception, SystemExit) as error:
            self.problem = f"It cannot be imported: {in_words(error)}"
        self.served = OwnDocs(self.app)

    async def __aenter__(self) -> "Mounted":
        """Start the recipe's lifespan."""
        if self.problem:
            return self
        lifespan = cast(Lifespan, self.app.router.lifespan_context(self.app))
        try:
            self.state = dict(await lifespan.__aenter__() or {})
            self.lifespan = lifespan
        except Exception as error:
            self.problem = f"Its lifespan fails: {in_words(error)}"
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the recipe's lifespan; whatever it raises is for the log."""
        if self.lifespan is None:
            return
        try:
            await self.lifespan.__aexit__(None, None, None)
        except Exception as error:
            slug = self.recipe.slug
            log.error("%s: its lifespan fails at its end: %s", slug, in_words(error))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self.problem:
            said = PlainTextResponse(f"{self.recipe.slug}: {self.problem}\n", 503)
            await said(scope, receive, send)
            return
        own = {**scope, "state": dict(self.state)}
        # Without these two `request.url_for` would search the site's routes.
        for key in ("router", "app_root_path"):
            own.pop(key, None)
        try:
            await self.served(own, receive, send)
        except* BrokenResourceError:
            pass  # FastAPI's, when a client leaves that had stopped reading its events.

    def answers(self, method: str, path: str) -> bool:
        """Tell whether this is the route of one of the recipe's own requests."""
        for asked in [] if self.problem else self.recipe.requests:
            tried = asked.path.partition("?")[0]
            if path.split("/")[1] != tried.split("/")[1]:
                continue
            scope = {"type": "http", "method": method, "path": path}
            for route in self.app.router.routes:
                if route.matches(scope)[0] is Match.FULL:
                    return True
        return False

    def about(self) -> dict[str, Any]:
        """Describe the recipe to the panel of its page."""
        slug = self.recipe.slug
        return {
            "page": f"live/{slug}/" if self.recipe.has_page else None,
            "needs": sorted(self.recipe.needs),
            "problem": self.problem,
            "requests": [
                described(line, asked)
                for line, asked in zip(
                    self.recipe.tries, self.recipe.requests, strict=True
                )
            ],
        }


def shown(pitfall: Pitfall) -> list[dict[str, Any]]:
    """Describe to the panel what a pitfall can be asked in one request."""
    tried = [pair for pair in pitfall.requests if len(pair[1].body) < BODY]
    return [described(line, asked) for line, asked in tried]


def described(line: str, asked: Asked) -> dict[str, Any]:
    """Describe a request to the panel; a body that is no text is left out."""
    try:
        body = asked.body.decode() or None
    except UnicodeDecodeError:
        body = None
    return {
        "line": line,
        "method": asked.method,
        "path": asked.path,
        "headers": dict(asked.headers),
        "body": body,
        "seconds": asked.seconds,
    }


class Pages(StaticFiles):
    """The built site; where a recipe's address is asked for, it says where that is."""

    def __init__(self, folder: Path, mounted: Iterable[Mounted]) -> None:
        super().__init__(directory=folder, html=True)
        self.mounted = mounted

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Give a page, or the address below `/live/` that was meant."""
        asked = f"/{path}"
        for recipe in self.mounted:
            slug = recipe.recipe.slug
            if recipe.answers(scope["method"], asked):
                there = f"/live/{slug}{asked}"
                return PlainTextResponse(
                    f"There is no page {asked} on this site. The recipe {slug} answers "
                    f"here: {there}\nStarted by hand, with uvicorn recipes.{slug}:app, "
                    f"it answers at http://127.0.0.1:8000{asked}\n",
                    status_code=404,
                )
        return await super().get_response(path, scope)


def create_app(site: Path = BUILT, buffering: str | None = None) -> Starlette:
    """Put the site at `/` and each recipe at `/live/<slug>/`, lifespans included.

    `buffering` is the address of a proxy in front that holds streams back.

    A recipe that cannot be imported, or whose lifespan fails, is kept out of it: the
    log, its panel and its address say why.
    """
    mounted = {recipe.slug: Mounted(recipe) for recipe in recipes()}
    museum = Museum()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for slug, recipe in mounted.items():
                await stack.enter_async_context(recipe)
                if recipe.problem:
                    log.error("%s is not served. %s", slug, recipe.problem)
            await stack.enter_async_context(museum.open())
            yield

    def with_slash(request: Request) -> Response:
        slug, query = request.url.path.rpartition("/")[2], request.url.query
        return RedirectResponse(f"{slug}/?{query}".rstrip("?"))

    def index(_: Request) -> Response:
        who = provider.current()
        public = ("kind", "description", "model")
        answers = {name: getattr(who, name) for name in public} if who else None
        known = {slug: recipe.about() for slug, recipe in mounted.items()}
        wrong = {name: shown(pitfall) for name, pitfall in museum.known.items()}
        said = {"recipes": known, "provider": answers, "pitfalls": wrong}
        return JSONResponse(said | ({"buffering": buffering} if buffering else {}))

    routes = [
        Route("/live/index.json", index, middleware=[Middleware(GZipMiddleware)]),
        *(Route(f"/live/{slug}", with_slash) for slug in mounted),
        *(Mount(f"/live/{slug}", app) for slug, app in mounted.items()),
        *museum.routes(),
        # The pages alone: a stream that is compressed arrives late.
        Mount("/", GZipMiddleware(Pages(site, mounted.values()), compresslevel=6)),
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
