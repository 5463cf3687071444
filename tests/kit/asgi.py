r"""Drive an ASGI application without a server, step by step and always the same way.

The contract, modelled on uvicorn (ASGI HTTP `spec_version` 2.3):

* `receive` gives the whole request body once; after that it waits until the client is
  gone or the response is complete, and then gives `http.disconnect` every time.
* `send` returns at once, without giving way to another task, unless the client has
  stopped reading (`stall_at`): then it waits, and chunk N is not taken.
* Each non-empty body message is one chunk, counted from 1; 0 is the response's head.
* When the client leaves (`disconnect_at`), `receive` wakes first and a stalled `send`
  second; every later `send` returns at once and what it carries is lost. An app that
  goes on to send more than `FROZEN` messages never gives way, so it would freeze a
  server: the driver ends it with `Frozen`.
* A client may leave before anything is sent: `leave_after` is called in a thread as the
  request begins, and when it returns, the client leaves.
* When the server gives up the request (`cancel_at`; uvicorn does it when the time of
  `--timeout-graceful-shutdown` is over), its task is cancelled, stalled or not.
* A stalled client leaves only after `TURNS` turns of the event loop, by which time
  everything that needs no clock and no thread has come to rest.

Everything that happens is written to one journal, in its exact order: `start 200`,
`chunk 1`, `stall 2`, `disconnect`, `cancel`, `frozen`, `end` (the last message is out),
`returned` or `raised ValueError`. The code under test adds its own lines with `note`.
The journal of a `Run` ends when the last request has returned: what is noted when the
event loop closes is too late. The garbage collector is off meanwhile, so nothing that
is noted before `returned` is its work.

    async def rows():
        try:
            for n in range(5):
                note("row")
                yield f"{n}\n"
        finally:
            note("finally")

    run = drive(app, "/rows", stall_at=3, disconnect_at=3)
    assert run.before("stall 3").count("row") == 3
    assert "finally" in run.before("returned")
"""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Scope

WAIT = 15  # seconds, the limit of every wait; ample, as a machine may be busy
TURNS = 100  # turns of the event loop before a stalled client leaves
FROZEN = 1000  # messages sent to a client that is gone

_journal: list[str] = []


def note(text: str) -> None:
    """Write a line of your own to the journal of the run, from any thread."""
    _journal.append(text)


class Frozen(BaseException):
    """The app never gave way; not an `Exception`, so that no app swallows it."""


@dataclass
class Outcome:
    """What a request came to, so far as every request has it."""

    status: int = 0
    chunks: list[bytes] = field(default_factory=list)
    error: BaseException | None = None  # what the app raised
    journal: list[str] = field(default_factory=list)

    @property
    def body(self) -> bytes:
        """All chunks together."""
        return b"".join(self.chunks)

    def before(self, line: str) -> list[str]:
        """Give the journal up to the first such line, which must be there."""
        assert line in self.journal, f"{line!r} is not in the journal: {self.journal}"
        return self.journal[: self.journal.index(line)]


@dataclass
class Run(Outcome):
    """What one request came to; `also` is the run of the second request."""

    headers: Headers = field(default_factory=lambda: Headers({}))
    lost: int = 0  # messages sent after the client had left
    also: "Run | None" = None


def drive(
    app: ASGIApp,
    target: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    stall_at: int | None = None,
    disconnect_at: int | None = None,
    cancel_at: int | None = None,
    leave_after: Callable[[], object] | None = None,
    also: str | None = None,
    also_at: int = 1,
) -> Run:
    """Run the app's lifespan, and in it one request for `target` (path and query).

    `also` is the target of a second request, a GET, which begins as soon as chunk
    `also_at` is out; its lines in the journal begin with the target: `/ping end`.

    Raises:
        AssertionError: a wait took too long, or the chunk at which the client was to
            stall, leave, be cancelled or ask again was never sent.
    """
    moments = {
        "stall": stall_at,
        "disconnect": disconnect_at,
        "cancel": cancel_at,
        "also": also_at if also else None,
    }
    due = {what: n for what, n in moments.items() if n is not None}
    request = _Request(app, target, method, headers or {}, body, due, also or "")
    request.leave_after = leave_after
    _journal.clear()
    collecting = gc.isenabled()
    gc.disable()
    try:
        asyncio.run(_drive(request))
    finally:
        if collecting:
            gc.enable()
    run = request.run
    if run.also:
        run.journal = max(run.journal, run.also.journal, key=len)
    if due and not run.error:
        raise AssertionError(f"never came to {due}: {run.journal}")
    return run


async def _drive(request: "_Request") -> None:
    async with (
        _lifespan(request.app) as request.state,
        _limit(f"{request.target} to return"),
        asyncio.TaskGroup() as request.group,
    ):
        request.task = request.group.create_task(request.serve())
        if request.leave_after:
            await asyncio.to_thread(request.leave_after)
            if request.task.done():
                raise AssertionError(f"never came to leave: {request.run.journal}")
            request.leave()


@dataclass
class _Request:
    """One request: the client that makes it and the server that answers it."""

    app: ASGIApp
    target: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    due: dict[str, int] = field(default_factory=dict)  # what is to happen, and when
    second: str = ""
    leave_after: Callable[[], object] | None = None
    prefix: str = ""
    state: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.run = Run()
        self.asked = self.left = False
        self.over, self.writable = asyncio.Event(), asyncio.Event()
        self.group: asyncio.TaskGroup
        self.task: asyncio.Task[None]

    async def serve(self) -> None:
        try:
            await self.app(self.scope(), self.receive, self.send)
        except (Exception, BaseExceptionGroup, asyncio.CancelledError, Frozen) as error:
            self.run.error = error
            self.note(f"raised {type(error).__name__}")
        else:
            self.note("returned")
        self.run.journal = _journal.copy()

    def scope(self) -> Scope:
        path, _, query = self.target.partition("?")
        headers = {"host": "127.0.0.1:8000", **self.headers}
        if self.body:
            headers["content-length"] = str(len(self.body))
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": Headers(headers).raw,
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 8000),
            "state": self.state.copy(),
        }

    async def receive(self) -> Message:
        if not self.asked:
            self.asked = True
            return {"type": "http.request", "body": self.body, "more_body": False}
        await self.over.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        head = message["type"] == "http.response.start"
        body = b"" if head or self.method == "HEAD" else message.get("body", b"")
        number = 0 if head else len(self.run.chunks) + 1
        if (head or body) and not self.left and self.now("stall", number):
            self.note(f"stall {number}")
            self.group.create_task(self.act_at_rest(number))
            await self.writable.wait()
        if self.left:
            self.run.lost += 1
            if self.run.lost > FROZEN:
                self.note("frozen")
                raise Frozen(f"{FROZEN} messages sent to a client that is gone")
            return
        if head:
            self.run.status = message["status"]
            self.run.headers = Headers(raw=list(message.get("headers", [])))
            self.note(f"start {self.run.status}")
            self.act(number)
        elif body:
            self.run.chunks.append(bytes(body))
            self.note(f"chunk {number}")
            self.act(number)
        if not (head or message.get("more_body") or self.left):
            self.note("end")
            self.over.set()

    async def act_at_rest(self, number: int) -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)
        self.act(number)

    def act(self, number: int) -> None:
        if self.now("also", number):
            other = _Request(self.app, self.second, prefix=f"{self.second} ")
            other.state, other.group, self.run.also = self.state, self.group, other.run
            other.task = self.group.create_task(other.serve())
        if self.now("disconnect", number):
            self.leave()
        if self.now("cancel", number):
            self.note("cancel")
            self.task.cancel()

    def leave(self) -> None:
        self.note("disconnect")
        self.left = True
        self.over.set()
        self.writable.set()

    def now(self, what: str, number: int) -> bool:
        return self.due.get(what) == number and self.due.pop(what) == number

    def note(self, text: str) -> None:
        note(self.prefix + text)


@asynccontextmanager
async def _limit(what: str) -> AsyncIterator[None]:
    """Give a wait its limit, and an error that says what was waited for."""
    try:
        async with asyncio.timeout(WAIT):
            yield
    except TimeoutError:
        raise AssertionError(f"waited {WAIT} s for {what}: {_journal}") from None


@asynccontextmanager
async def _lifespan(app: ASGIApp) -> AsyncIterator[dict[str, Any]]:
    """Start the app up and shut it down; an app that knows no lifespan needs none."""
    state: dict[str, Any] = {}
    to_app, from_app = asyncio.Queue[Message](), asyncio.Queue[Message]()
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": state}

    async def live() -> None:
        try:
            await app(scope, to_app.get, from_app.put)
        except Exception as error:
            await from_app.put({"type": "unsupported", "message": repr(error)})

    async def tell(event: str) -> bool:
        await to_app.put({"type": f"lifespan.{event}"})
        async with _limit(f"the lifespan's {event}"):
            answer = await from_app.get()
        if answer["type"].endswith(".failed"):
            raise AssertionError(f"the lifespan's {event} failed: {answer['message']}")
        return bool(answer["type"].endswith(".complete"))

    task = asyncio.create_task(live())
    supported = await tell("startup")
    yield state
    if supported:
        await tell("shutdown")
    await task
