"""Serve a language model that says what a script says, and fails on command.

    with scripted.running() as provider:
        client = AsyncOpenAI(base_url=f"{provider.url}/v1", api_key="any")

It speaks OpenAI chat completions, OpenAI Responses and Anthropic Messages over real
HTTP on 127.0.0.1. The *model* of a request names a scenario in `scenarios.toml`; any
other model gets the scenario `ok`. For those who only have HTTP:

    GET    /scripted/record                 what became of each request, as a table
    GET    /scripted/requests               the same in JSON, as a list of `Request`
    DELETE /scripted/requests               forget them all
    POST   /scripted/go     {"tokens": 3}   let scenarios with a gate make three more

A connection that is reset and a chunk that ends inside a character are beyond ASGI:
here h11 writes the HTTP, and each chunk is one write to the socket.
"""

import asyncio
import http.client
import json
import re
import socket
import struct
import threading
import tomllib
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import h11
from pydantic import BaseModel, Field, ValidationError, field_validator
from pydantic_core.core_schema import ValidationInfo

from cookbook.llm import local, wire

HOST = "127.0.0.1"
SCENARIOS = Path(__file__).with_name("scenarios.toml")
DEFAULT = "ok"  # the scenario of every model that no scenario is named after
WAIT = 5.0  # seconds, the limit of every wait
LEFT = "closed by the client"
READ = 65536  # bytes
NAME = 40  # characters of a model's name that the record's table shows
LINE_ENDS = {"lf": "\n", "crlf": "\r\n"}
CUTS = {"": b"(?!)", "byte": b"(?s)(?<=.)", "cr": b"(?<=\r)"}
CUTS["character"] = b"(?<=[\xc2-\xf4])"  # after the first of its bytes (RFC 3629, 4)

Count = Annotated[int, Field(ge=0)]
Times = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(ge=0)]


class Tool(BaseModel, extra="forbid", strict=True):
    """A call of a tool, with the tokens of its arguments."""

    name: str
    arguments: list[str]

    @field_validator("arguments")
    @classmethod
    def _are_json(cls, tokens: list[str]) -> list[str]:
        if not isinstance(json.loads("".join(tokens)), dict):
            raise ValueError("put together they are no JSON object")
        return tokens


class Scenario(BaseModel, extra="forbid", strict=True):
    """One scenario; `scenarios.toml` says what the fields mean."""

    about: str
    thinking: list[str] = []
    tokens: list[str] = []
    refusal: list[str] = []
    tools: list[Tool] = []
    repeat: Times = 1
    enlarge: Times = 1
    silences: bool = False
    input_tokens: Count = 12
    cached_tokens: Count = 0
    pause: Seconds = 0
    gate: bool = False
    status: Annotated[int, Field(ge=400, le=599)] | None = None
    headers: dict[str, str] = {}
    fails: Count = 0
    fault: Literal["error", "stall", "truncate", "half-event", "reset"] | None = None
    after: Count = 0
    line_end: Literal["lf", "crlf"] = "lf"
    cut: Literal["", "byte", "character", "cr"] = ""
    join: Times = 1
    drip: Seconds = 0

    @field_validator("after")
    @classmethod
    def _comes(cls, after: int, info: ValidationInfo) -> int:
        if after > len(said := cls.model_construct(**info.data).said()):
            raise ValueError(f"there are only {len(said)} tokens")
        return after

    def said(self) -> list[wire.Token]:
        """Give the tokens in their order."""
        text = [token * self.enlarge for token in self.tokens] * self.repeat
        arguments = [
            (t, n) for n, tool in enumerate(self.tools) for t in tool.arguments
        ]
        return [
            *(wire.Token("thinking", token) for token in self.thinking),
            *(wire.Token("text", token) for token in text),
            *(wire.Token("refusal", token) for token in self.refusal),
            *(wire.Token("tool", *argument) for argument in arguments),
        ]


def load(file: Path | None = None) -> dict[str, Scenario]:
    """Read a file of scenarios, by default the one that lies beside this module.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no TOML, a field is wrong, or there is no scenario `ok`.
    """
    file = file or SCENARIOS
    scenarios = {}
    try:
        for name, fields in tomllib.loads(file.read_text("utf-8")).items():
            scenarios[name] = Scenario.model_validate(fields)
    except ValidationError as error:
        raise ValueError(f"{file.name}, scenario {name}: {_reasons(error)}") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{file.name} is no TOML: {error}") from None
    if DEFAULT not in scenarios:
        raise ValueError(f"{file.name} lacks the scenario {DEFAULT}, which is for all")
    return scenarios


def _reasons(error: ValidationError) -> str:
    places = [(".".join(map(str, e["loc"])), e["msg"]) for e in error.errors()]
    return "; ".join(
        f"{place}: {reason}" if place else reason for place, reason in places
    )


@dataclass
class Request:
    """What became of a request.

    `hung_up_after` counts the tokens made until the client left. It is None
    if the client stayed to the end of the script, be that an answer or a fault, and
    `finished` is true then. `ended` says in words how it ended; it is None as long as
    it goes on. That a key came is noted, the key is not.
    """

    id: int
    path: str
    scenario: str
    model: str
    stream: bool
    has_key: bool
    tokens_made: int = 0
    hung_up_after: int | None = None
    finished: bool = False
    ended: str | None = None

    def over(self) -> bool:
        """Say whether nothing more will come."""
        return self.finished or self.hung_up_after is not None


def table(requests: Sequence[Request]) -> str:
    """Write the record for people, a line a request."""
    rows = [("request", "ended", "tokens", "model", "scenario", "stream", "path")]
    for request in requests:
        ended = request.ended or "still open"
        asked = in_a_row(request.model), request.scenario
        stream = "yes" if request.stream else "no"
        made = str(request.tokens_made)
        rows.append((str(request.id), ended, made, *asked, stream, request.path))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() + "\n" for row in rows]
    return "".join(lines)


def in_a_row(text: str) -> str:
    """Make a text of a client's fit into a row; it may hold anything."""
    signs = (sign if sign.isprintable() else "�" for sign in text[:NAME])
    return "".join(signs)


def ending(status: int | None, fault: str | None) -> str:
    """Say how an answer ends if its client stays as long as it can."""
    if status:
        return f"refused with status {status}"
    if fault == "stall":
        return LEFT
    return f"broken off: {fault}" if fault else "complete"


def in_markdown(scenarios: Mapping[str, Scenario]) -> str:
    """Write the scenarios as a table for a page."""
    rows = ["| model | what the provider does | the record says |", "|---|---|---|"]
    for name, scenario in scenarios.items():
        end = ending(scenario.status, scenario.fault)
        if scenario.fails:
            end += ", then " + ending(None, scenario.fault)
        rows.append(f"| `{name}` | {scenario.about} | {end} |")
    return "\n".join(["", *rows, "", ""])


class Go(BaseModel, extra="forbid"):
    """How many tokens the gate lets through."""

    tokens: Times


class Part(NamedTuple):
    """What the provider plays in one request; `status` is that of a refusal."""

    scenario: Scenario
    form: wire.Format
    answer: wire.Answer
    request: Request
    status: int | None

    @property
    def fault(self) -> str | None:
        """The fault, unless the request asked for so few tokens that it never comes."""
        short = self.scenario.after > len(self.answer.tokens)
        return None if short else self.scenario.fault

    @property
    def end(self) -> str:
        """How it ends if the client stays."""
        return ending(self.status, self.fault)

    @property
    def headers(self) -> list[tuple[str, str]]:
        """The header fields of every response to a request for tokens."""
        return [(self.form.request_id, f"req_{self.request.id}")]


Steps = AsyncGenerator[h11.Event | None, None]  # None resets the connection


class Connection:
    """One connection with a client."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.reader, self.writer = reader, writer
        self.http = h11.Connection(h11.SERVER)
        # asyncio has set TCP_NODELAY; and so `drain` waits until the kernel has all.
        writer.transport.set_write_buffer_limits(high=0)

    async def request(self) -> tuple[h11.Request, bytes] | None:
        """Read the next request and its body; None if the client wants no more."""
        body = bytearray()
        while True:
            match self.http.next_event():
                case h11.NEED_DATA:
                    if self.http.they_are_waiting_for_100_continue:
                        go_on = h11.InformationalResponse(status_code=100, headers=[])
                        await self.send(go_on)
                    self.http.receive_data(await self.reader.read(READ))
                case h11.Request() as event:
                    request = event
                case h11.Data(data=data):
                    body += data
                case h11.EndOfMessage():
                    return request, bytes(body)
                case _:
                    return None

    async def gone(self) -> None:
        """Wait until the client has closed; what it still sends is for later."""
        with suppress(ConnectionError):
            while data := await self.reader.read(READ):
                self.http.receive_data(data)

    async def send(self, step: h11.Event | None) -> None:
        """Write one part of a response; None resets the connection."""
        if step is None:
            # Closed with a linger of zero seconds, a socket sends RST in place of FIN.
            linger = struct.pack("ii", 1, 0)
            sock = self.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.writer.transport.abort()
            self.http.send_failed()
        elif data := self.http.send(step):
            self.writer.write(data)
            await self.writer.drain()

    def next(self) -> bool:
        """Make ready for another request, if there can be one."""
        again = self.http.our_state is h11.DONE and self.http.their_state is h11.DONE
        if again:
            self.http.start_next_cycle()
        return again


def head(status: int, kind: str, headers: list[tuple[str, str]]) -> h11.Response:
    """Make the head of a response; without a length, h11 sends it in chunks."""
    return h11.Response(
        status_code=status,
        reason=http.client.responses.get(status, ""),
        headers=[("Content-Type", kind), *headers],
    )


def in_json(
    status: int, data: object, headers: Sequence[tuple[str, str]] = ()
) -> Iterator[h11.Event]:
    """Make a whole response of data."""
    body = wire.dumps(data).encode()
    yield from at_once(status, "application/json", body, headers)


def at_once(
    status: int, kind: str, body: bytes, headers: Sequence[tuple[str, str]] = ()
) -> Iterator[h11.Event]:
    """Make a whole response."""
    yield head(status, kind, [("Content-Length", str(len(body))), *headers])
    yield h11.Data(data=body)
    yield h11.EndOfMessage()


def recorded(requests: Sequence[Request], *, for_people: bool) -> Iterator[h11.Event]:
    """Make a response of the record: as a table, else in JSON, a line a request."""
    if for_people:
        yield from at_once(200, "text/plain; charset=utf-8", table(requests).encode())
    else:
        lines = [wire.dumps(asdict(request)) for request in requests]
        body = "[" + ",\n ".join(lines) + "]\n"
        yield from at_once(200, "application/json", body.encode())


def cut(step: h11.Event | None, how: str) -> Iterator[h11.Event | None]:
    """Cut what belongs to a body into chunks, and leave the rest as it is."""
    if isinstance(step, h11.Data):
        pieces = re.split(CUTS[how], step.data)
        yield from (h11.Data(data=piece) for piece in pieces if piece)
    else:
        yield step


class Provider:
    """The provider; any thread may call its methods, but for `start` and `stop`.

    `pace` is a factor for all seconds in the scenarios: 0 leaves out every pause.
    """

    def __init__(self, scenarios: Mapping[str, Scenario], pace: float = 1.0) -> None:
        self.scenarios, self.pace = scenarios, pace
        self.url = ""
        self._requests: list[Request] = []
        self._asked = Counter[str]()  # requests a scenario
        self._let_through = 0  # tokens
        self._changed = threading.Condition()  # guards these three
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, listener: socket.socket) -> None:
        """Accept connections in this event loop, until `stop`."""
        self.url = f"http://{HOST}:{listener.getsockname()[1]}"
        self._loop, self._opened = asyncio.get_running_loop(), asyncio.Event()
        self._server = await asyncio.start_server(self._accept, sock=listener)

    async def stop(self) -> None:
        """End at once, whatever is being said."""
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # Sockets are closed in the loop's next turn.

    @property
    def env(self) -> dict[str, str]:
        """The environment in which the official SDKs find this provider."""
        return local.environment(self.url)

    def requests(self) -> list[Request]:
        """Give the requests as they stand, in the order of their ids from 1."""
        with self._changed:
            return [replace(request) for request in self._requests]

    def wait(
        self, number: int, until: Callable[[Request], bool] = Request.over
    ) -> Request:
        """Wait until a request is over, or something else is true of it, and give it.

        In a coroutine of the client use `await asyncio.to_thread(provider.wait, 1)`: a
        client that cannot run cannot hang up either.

        Raises:
            TimeoutError: this did not come true within five seconds.
        """

        def come() -> bool:
            return number <= len(self._requests) and until(self._requests[number - 1])

        with self._changed:
            if self._changed.wait_for(come, WAIT):
                return replace(self._requests[number - 1])
            raise TimeoutError(
                f"waited {WAIT:g} s for request {number} to be {until.__name__},"
                f" and these came: {self._requests}"
            )

    def go(self, tokens: int) -> None:
        """Let scenarios with a gate make so many tokens more, all together."""
        with self._changed:
            self._let_through += tokens
        self._loop.call_soon_threadsafe(self._opened.set)

    def reset(self) -> None:
        """Forget the requests and what the gate would let through; ids start at 1."""
        with self._changed:
            self._requests.clear()
            self._asked.clear()
            self._let_through = 0

    def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = self._loop.create_task(self._converse(Connection(reader, writer)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _converse(self, connection: Connection) -> None:
        try:
            # What is no HTTP, and a client that is gone, end the connection alike.
            with suppress(h11.ProtocolError, ConnectionError):
                while asked := await connection.request():
                    await self._reply(connection, *asked)
                    if not connection.next():
                        break
        except asyncio.CancelledError:
            connection.writer.transport.abort()
            raise
        finally:
            connection.writer.close()

    async def _reply(
        self, connection: Connection, request: h11.Request, body: bytes
    ) -> None:
        # Without the query, which may hold a key.
        path = request.target.partition(b"?")[0].decode("ascii")
        # OpenAI's base URL ends in /v1, Anthropic's does not; here both may do either.
        place = re.sub("^(/v1)+(?=/)", "", path)
        names = {name.lower() for name, _ in request.headers}
        form = wire.FORMATS.get(place)
        reply: tuple[int, object]
        try:
            match request.method, place:
                case b"POST", _ if form:
                    has_key = bool(names & {b"authorization", b"x-api-key"})
                    await self._answer(connection, form, path, has_key, body)
                    return
                case b"GET", "/models":
                    anthropic = b"anthropic-version" in names
                    reply = 200, wire.models(list(self.scenarios), anthropic=anthropic)
                case b"GET", "/scripted/record" | "/scripted/requests":
                    for_people = place.endswith("record")
                    for step in recorded(self.requests(), for_people=for_people):
                        await connection.send(step)
                    return
                case b"DELETE", "/scripted/requests":
                    self.reset()
                    reply = 200, []
                case b"POST", "/scripted/go":
                    self.go(Go.model_validate_json(body).tokens)
                    reply = 200, {}
                case _:
                    reply = 404, wire.openai_error(404, "There is no such path.")
        except ValidationError as error:
            refuse = form.error if form else wire.openai_error
            reply = 400, refuse(400, _reasons(error))
        for step in in_json(*reply):
            await connection.send(step)

    async def _answer(
        self,
        connection: Connection,
        form: wire.Format,
        path: str,
        has_key: bool,
        body: bytes,
    ) -> None:
        part = self._cast(form, path, has_key, form.asked.model_validate_json(body))
        play = asyncio.create_task(self._perform(connection, part))
        gone = asyncio.create_task(connection.gone())
        try:
            await asyncio.wait({play, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            play.cancel()
            gone.cancel()
            error, _ = await asyncio.gather(play, gone, return_exceptions=True)
        if not error:
            return
        if isinstance(error, asyncio.CancelledError | ConnectionError):
            if not part.request.finished:
                made = part.request.tokens_made
                self._note(part.request, hung_up_after=made, ended=LEFT)
            raise ConnectionResetError
        raise error

    def _cast(
        self, form: wire.Format, path: str, has_key: bool, asked: wire.Asked
    ) -> Part:
        """Find the scenario, write the request down and say what the answer is."""
        name = asked.model if asked.model in self.scenarios else DEFAULT
        scenario, stream = self.scenarios[name], bool(asked.stream)
        with self._changed:
            number = len(self._requests) + 1
            request = Request(number, path, name, asked.model, stream, has_key)
            self._requests.append(request)
            turn = self._asked[name]
            self._asked[name] += 1
            self._changed.notify_all()
        tokens = scenario.said()
        answer = wire.Answer(
            number,
            asked.model,
            tokens[: asked.limit],
            [tool.name for tool in scenario.tools],
            cut=asked.limit is not None and asked.limit < len(tokens),
            silences=scenario.silences,
            usage=asked.wants_usage(),
            input_tokens=scenario.input_tokens,
            cached_tokens=scenario.cached_tokens,
        )
        answered = scenario.fails and turn % (scenario.fails + 1) == scenario.fails
        status = None if answered else scenario.status
        return Part(scenario, form, answer, request, status)

    async def _perform(self, connection: Connection, part: Part) -> None:
        play = self._whole
        if part.status:
            play = self._refusal
        elif part.request.stream:
            play = self._stream
        async with aclosing(play(part)) as steps:
            async for step in steps:
                # Noted first, so that who has seen the end finds it noted.
                if step is None or isinstance(step, h11.EndOfMessage):
                    self._note(part.request, finished=True, ended=part.end)
                for piece in cut(step, part.scenario.cut):
                    if part.scenario.drip:
                        await asyncio.sleep(part.scenario.drip * self.pace)
                    await connection.send(piece)

    async def _refusal(self, part: Part) -> Steps:
        status = part.status or 500
        error = part.form.error(status, part.scenario.about)
        headers = [*part.headers, *part.scenario.headers.items()]
        for step in in_json(status, error, headers):
            yield step

    async def _whole(self, part: Part) -> Steps:
        """Answer in one piece; what is to break, breaks in the middle of it."""
        answer, fault = part.answer, part.fault
        for _ in answer.tokens[: part.scenario.after if fault else None]:
            await self._make(part)
        if fault == "error":
            error = part.form.error(500, wire.BROKE_OFF)
            for step in in_json(500, error, part.headers):
                yield step
            return
        if fault == "stall":
            await asyncio.Event().wait()
        body = wire.dumps(part.form.whole(answer)).encode()
        yield head(200, "application/json", part.headers)
        yield h11.Data(data=body[: len(body) // 2 if fault else None])
        yield None if fault == "reset" else h11.EndOfMessage()

    async def _stream(self, part: Part) -> Steps:
        """Answer event by event."""
        scenario, answer, made = part.scenario, part.answer, part.request
        end = LINE_ENDS[scenario.line_end]
        headers = [*part.headers, ("Cache-Control", "no-cache")]
        yield head(200, "text/event-stream; charset=utf-8", headers)
        sent, waiting, fault = 0, list[bytes](), None
        for event in part.form.stream(answer):
            at_last = made.tokens_made == len(answer.tokens)
            if made.tokens_made == scenario.after and (event.token or at_last):
                fault = part.fault
            if fault == "half-event":
                whole = wire.frame(event, end)
                waiting.append(whole[: len(whole) // 2])
            if fault:
                break
            if event.token:
                await self._make(part)
            if event.data is not None:
                waiting.append(wire.frame(event, end))
                sent += 1
            if len(waiting) == scenario.join:
                yield h11.Data(data=b"".join(waiting))
                waiting.clear()
        if fault == "error":
            failure = part.form.failure(answer, sent)
            waiting += [wire.frame(event, end) for event in failure]
        for data in waiting if scenario.join == 1 else [b"".join(waiting)]:
            yield h11.Data(data=data)
        if fault == "stall":
            await asyncio.Event().wait()
        yield None if fault == "reset" else h11.EndOfMessage()

    async def _make(self, part: Part) -> None:
        """Make one token; even without a pause it lets the others have a turn."""
        await asyncio.sleep(part.scenario.pause * self.pace)
        while part.scenario.gate and not self._is_let_through(part.request):
            self._opened.clear()
            await self._opened.wait()
        self._note(part.request, tokens_made=part.request.tokens_made + 1)

    def _is_let_through(self, request: Request) -> bool:
        with self._changed:
            # One that `reset` has forgotten waits until its client leaves.
            known = any(one is request for one in self._requests)
            free = known and self._let_through > 0
            self._let_through -= free
            return free

    def _note(self, request: Request, **fields: int | bool | str) -> None:
        with self._changed:
            for name, value in fields.items():
                setattr(request, name, value)
            self._changed.notify_all()


@contextmanager
def running(
    scenarios: Path | None = None, port: int = 0, pace: float = 1.0
) -> Iterator[Provider]:
    """Serve on 127.0.0.1 in a thread until the block ends; 0 takes a free port.

    Raises:
        OSError, ValueError: the scenarios cannot be read; see `load`.
    """
    provider = Provider(load(scenarios), pace)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    with socket.create_server((HOST, port)) as listener:
        thread.start()
        try:
            asyncio.run_coroutine_threadsafe(provider.start(listener), loop).result()
            yield provider
        finally:
            asyncio.run_coroutine_threadsafe(provider.stop(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


def run(listener: socket.socket, scenarios: Mapping[str, Scenario]) -> None:
    """Serve on a socket that listens, until Ctrl-C."""
    provider = Provider(scenarios)

    async def serve() -> None:
        await provider.start(listener)
        try:
            await asyncio.Event().wait()
        finally:
            await provider.stop()

    with suppress(KeyboardInterrupt):
        asyncio.run(serve())
