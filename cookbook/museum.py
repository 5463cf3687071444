"""Pitfalls that the site runs, each in a process of its own, while somebody looks.

A wrong program may freeze its event loop or fill its memory, so none runs in the site's
own process. `POST /pitfalls-live/<slug>/<mistake>` starts one; what is asked below that
address is passed on to it. It ends when nobody has asked it for `IDLE` seconds, when
another one needs its place, and with the site.

Only the site's own pages may ask: some of these programs give away what they should
keep, and a page of another site must not be able to start or to read them.
"""

import asyncio
import logging
import sys
from asyncio import subprocess
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property

import anyio
import httpx2
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount
from starlette.types import Receive, Scope, Send

from cookbook.catalog import ROOT, Pitfall, pitfalls

PREFIX = "/pitfalls-live"
MOST = 3  # processes at once
IDLE = 30.0  # seconds without a request before a process is ended
LONGEST = 60.0  # seconds that one request may take
START = 30.0  # seconds until a process has to serve
ALIVE = 1.0  # seconds in which one that serves has to answer
BODY = 1_000_000  # bytes of a request's body
# Of one connection only (RFC 9110, 7.6.1), and what belongs to the site alone.
DROPPED = {b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding"}
DROPPED |= {b"upgrade", b"host", b"cookie", b"set-cookie", b"date", b"server"}


class RefusedError(Exception):
    """Why a request is not passed on: a status and a sentence."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.answer = PlainTextResponse(f"{said}\n", status)


@dataclass(eq=False)
class Running:
    """A pitfall that serves."""

    name: str
    process: subprocess.Process
    port: int
    open: int = 0  # requests that it is answering
    timer: asyncio.TimerHandle | None = None  # ends it, when nobody asks

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    async def end(self) -> None:
        """End the process at once; a frozen one would not obey anything milder."""
        if self.timer:
            self.timer.cancel()
        with suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()


class Museum:
    """The pitfalls of the catalog, and those that run now.

    `found` stands in for the catalog's; pitfalls that need more than Python are left
    out. `idle` is the time, in seconds, after which one that nobody asks is ended.
    """

    def __init__(
        self, found: Iterable[Pitfall] | None = None, idle: float = IDLE
    ) -> None:
        self.found = found
        self.idle = idle
        self.running: dict[str, Running] = {}
        self.starting = asyncio.Lock()
        self.ending: set[asyncio.Task[None]] = set()
        self.client: httpx2.AsyncClient

    @cached_property
    def known(self) -> Mapping[str, Pitfall]:
        """The pitfalls that can be run here, by name."""
        found = pitfalls() if self.found is None else self.found
        return {pitfall.name: pitfall for pitfall in found if not pitfall.needs}

    def routes(self) -> list[BaseRoute]:
        """Give the routes of the museum."""
        return [Mount(PREFIX, self)]

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Let pitfalls run until the block ends."""
        async with AsyncExitStack() as stack:
            # No time limit: to be silent is what some pitfalls are there for.
            client = httpx2.AsyncClient(timeout=None, trust_env=False)
            self.client = await stack.enter_async_context(client)
            stack.enter_context(without_a_line_for_what_breaks_off())
            stack.push_async_callback(self.close)
            yield

    async def close(self) -> None:
        """End every process."""
        for running in list(self.running.values()):
            await self.end(running)

    async def end(self, running: Running) -> None:
        """End one process, if that has not been done."""
        if self.running.get(running.name) is running:
            del self.running[running.name]
        await running.end()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Start a pitfall, or pass a request on to one that runs."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        try:
            only_from_here(request)
            pitfall, rest = self.place(scope)
            if rest is None:
                await (await self.begin(request, pitfall))(scope, receive, send)
            else:
                await self.answer(request, pitfall, rest, send)
        except RefusedError as refused:
            await refused.answer(scope, receive, send)
        except ClientDisconnect:
            return

    def place(self, scope: Scope) -> tuple[Pitfall, bytes | None]:
        """Read an address: the pitfall, and the path behind it as it was sent.

        The path is None where the pitfall itself is meant. Raises RefusedError if the
        address names no pitfall of the catalog.
        """
        whole: bytes = scope["raw_path"].partition(b"?")[0]
        _, _, inside = whole.partition(PREFIX.encode() + b"/")
        slug, mistake, *rest = [*inside.split(b"/", 2), b""][:3]
        name = f"{slug.decode('ascii', 'replace')}/{mistake.decode('ascii', 'replace')}"
        if name not in self.known:
            raise RefusedError(404, "There is no pitfall of this name.")
        given = inside.count(b"/") > 1
        return self.known[name], b"/" + rest[0] if given else None

    async def begin(self, request: Request, pitfall: Pitfall) -> Response:
        """Let a pitfall run, if it does not yet; 204 when it serves."""
        if request.method != "POST":
            raise RefusedError(405, "POST starts this pitfall.")
        async with self.starting:
            if running := self.running.get(pitfall.name):
                if await self.is_alive(running):
                    self.wait_for_requests(running)
                    return Response(status_code=204)
                await self.end(running)
            await self.make_room()
            running = await self.start(pitfall.name)
            self.running[pitfall.name] = running
            self.wait_for_requests(running)
        return Response(status_code=204)

    async def start(self, name: str) -> Running:
        """Start a process; RefusedError if it does not serve."""
        return await start(name)

    async def is_alive(self, running: Running) -> bool:
        """Tell whether a process still answers; one that froze does not."""
        try:
            with anyio.fail_after(ALIVE):
                await self.client.get(running.url + "/openapi.json")
        except (httpx2.HTTPError, TimeoutError):
            return False
        return True

    async def make_room(self) -> None:
        """End the one that has waited longest, if there is no room for another."""
        while len(self.running) >= MOST:
            waiting = [one for one in self.running.values() if not one.open]
            if not waiting:
                said = f"{MOST} pitfalls run already. Stop one, then run this again."
                raise RefusedError(503, said)
            await self.end(waiting[0])

    def wait_for_requests(self, running: Running) -> None:
        """Set the time at which a process ends that nobody asks, if nobody does."""
        if running.timer:
            running.timer.cancel()
        if running.open:
            return

        def end() -> None:
            task = asyncio.ensure_future(self.end(running))
            self.ending.add(task)
            task.add_done_callback(self.ending.discard)

        running.timer = asyncio.get_running_loop().call_later(self.idle, end)

    async def answer(
        self, request: Request, pitfall: Pitfall, path: bytes, send: Send
    ) -> None:
        """Pass one request on. An answer that breaks off breaks off here, too."""
        running = self.running.get(pitfall.name)
        if not running:
            raise RefusedError(409, "This pitfall does not run. A POST starts it.")
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > BODY:
                raise RefusedError(413, f"A body has at most {BODY:,} bytes here.")
        if query := request.scope["query_string"]:
            path += b"?" + query
        asked = self.client.build_request(
            request.method,
            httpx2.URL(running.url).copy_with(raw_path=path),
            headers=kept(request.scope["headers"]),
            content=body,
        )
        running.open += 1
        self.wait_for_requests(running)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(until_gone, request, group.cancel_scope)
                with anyio.move_on_after(LONGEST):
                    await self.relay(request, asked, send)
                group.cancel_scope.cancel()
        finally:
            running.open -= 1
            self.wait_for_requests(running)

    async def relay(self, request: Request, asked: httpx2.Request, send: Send) -> None:
        """Send what the pitfall answers, byte for byte, as it comes.

        Where it breaks off, the server hangs up: it is not told that this was all.
        """
        try:
            response = await self.client.send(asked, stream=True)
        except httpx2.HTTPError as error:
            said = f"The pitfall did not answer: {type(error).__name__}."
            answer = PlainTextResponse(f"{said}\n", 502)
            await answer(request.scope, request.receive, send)
            return
        try:
            headers = kept(response.headers.raw)
            status = response.status_code
            start = {"type": "http.response.start", "status": status}
            await send(start | {"headers": headers})
            async for part in response.aiter_raw():
                await send(
                    {"type": "http.response.body", "body": part, "more_body": True}
                )
        except httpx2.HTTPError:
            return
        finally:
            await response.aclose()
        await send({"type": "http.response.body"})


@contextmanager
def without_a_line_for_what_breaks_off() -> Iterator[None]:
    """Let uvicorn's log leave out answers that are cut short here on purpose."""

    def matters(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("ASGI callable returned without")

    log = logging.getLogger("uvicorn.error")
    log.addFilter(matters)
    try:
        yield
    finally:
        log.removeFilter(matters)


def only_from_here(request: Request) -> None:
    """Refuse what a page of another site asks; raises RefusedError.

    A browser says where a request comes from: in `Sec-Fetch-Site` (Fetch Metadata) and,
    unless it is a plain GET, in `Origin`. A page on another port is another site, too.
    """
    site = request.headers.get("sec-fetch-site", "same-origin")
    own = f"{request.url.scheme}://{request.url.netloc}"
    if site not in {"same-origin", "none"} or request.headers.get("origin", own) != own:
        raise RefusedError(403, "Only a page of this site may ask this.")


def kept(fields: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Leave out the header fields that are not for the other side."""
    return [(name, value) for name, value in fields if name.lower() not in DROPPED]


async def until_gone(request: Request, scope: anyio.CancelScope) -> None:
    """Wait until the client has left, then cancel."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def start(name: str) -> Running:
    """Start a pitfall in a process of its own; RefusedError if it does not serve."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cookbook.pitfall", name),
        cwd=ROOT,
        stdin=subprocess.PIPE,  # It ends when this is closed, and so with the site.
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    said = b""
    try:
        with anyio.move_on_after(START):
            said = await process.stdout.readline() if process.stdout else b""
    finally:
        if not said:
            with suppress(ProcessLookupError):
                process.kill()
            # Also if this is cancelled: the loop must not be closed before it is gone.
            await process.wait()
    if not said:
        raise RefusedError(503, f"{name} does not start here.")
    return Running(name, process, int(said))
