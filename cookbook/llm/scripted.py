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

Its parts, each a module of this folder: `formats` puts an answer into events and JSON,
`scenario` reads what to say, `play` says it, `faults` spoils the bytes, `connection`
speaks HTTP, and `record` keeps what became of it.
"""

import asyncio
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import h11
from pydantic import BaseModel, ValidationError

from cookbook.llm import local
from cookbook.llm.connection import Connection, at_once, in_json
from cookbook.llm.formats import (
    FORMATS,
    anthropic_models,
    chat,
    openai_models,
)
from cookbook.llm.formats.answer import Answer, Asked, Format, dumps
from cookbook.llm.play import Gate, Play
from cookbook.llm.record import WAIT, Record, Request, table
from cookbook.llm.scenario import (
    DEFAULT,
    LEFT,
    SCENARIOS,
    Scenario,
    Times,
    ending,
    load,
    reasons,
)

__all__ = [
    "HOST",
    "LEFT",
    "SCENARIOS",
    "WAIT",
    "Provider",
    "Request",
    "Scenario",
    "ending",
    "load",
    "run",
    "running",
]

HOST = "127.0.0.1"


class Go(BaseModel, extra="forbid"):
    """How many tokens the gate lets through."""

    tokens: Times


class Provider:
    """The provider; any thread may call its methods, but for `start` and `stop`.

    `pace` is a factor for all seconds in the scenarios: 0 leaves out every pause.
    """

    def __init__(self, scenarios: Mapping[str, Scenario], pace: float = 1.0) -> None:
        self.scenarios = scenarios
        self.pace = pace
        self.url = ""
        self._record = Record()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, listener: socket.socket) -> None:
        """Accept connections in this event loop, until `stop`."""
        self.url = f"http://{HOST}:{listener.getsockname()[1]}"
        self._loop = asyncio.get_running_loop()
        self._gate = Gate(self._loop)
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
        return self._record.requests()

    def wait(
        self, number: int, until: Callable[[Request], bool] = Request.over
    ) -> Request:
        """Wait until a request is over, or something else is true of it, and give it.

        In a coroutine of the client use `await asyncio.to_thread(provider.wait, 1)`: a
        client that cannot run cannot hang up either.

        Raises:
            TimeoutError: this did not come true within `WAIT` seconds.
        """
        return self._record.wait(number, until)

    def go(self, tokens: int) -> None:
        """Let scenarios with a gate make so many tokens more, all together."""
        self._gate.open(tokens)

    def reset(self) -> None:
        """Forget the requests and what the gate would let through; ids start at 1."""
        self._record.clear()
        # Who waits at the old gate waits until the client leaves: nobody opens it.
        self._gate = Gate(self._loop)

    def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = self._loop.create_task(self._converse(Connection(reader, writer)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _converse(self, connection: Connection) -> None:
        """Answer one request after the other, as long as the client stays."""
        try:
            # What is no HTTP, and a client that is gone, end the connection alike.
            with suppress(h11.ProtocolError, ConnectionError):
                while asked := await connection.request():
                    request, body = asked
                    await self._reply(connection, request, body)
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
        """Answer one request, with an answer or with data about the provider."""
        # Without the query, which may hold a key.
        path = request.target.partition(b"?")[0].decode("ascii")
        # OpenAI's base URL ends in /v1, Anthropic's does not; here both may do either.
        place = re.sub("^(/v1)+(?=/)", "", path)
        names = {name.lower() for name, _ in request.headers}
        format_ = FORMATS.get(place)
        try:
            if format_ and request.method == b"POST":
                asked = format_.asked.model_validate_json(body)
                has_key = b"authorization" in names or b"x-api-key" in names
                play = self._prepare(connection, format_, path, asked, has_key=has_key)
                await self._play(play)
                return
            anthropic = b"anthropic-version" in names
            steps = self._tell(request.method, place, body, anthropic=anthropic)
        except ValidationError as error:
            refuse = format_.error if format_ else chat.error
            steps = in_json(400, refuse(400, reasons(error)))
        for step in steps:
            await connection.send(step)

    def _tell(
        self, method: bytes, place: str, body: bytes, *, anthropic: bool
    ) -> Iterator[h11.Event]:
        """Do what a request asks for that is not for tokens."""
        match method, place:
            case b"GET", "/models":
                models = anthropic_models if anthropic else openai_models
                return in_json(200, models(list(self.scenarios)))
            case b"GET", "/scripted/record":
                text = table(self.requests())
                return at_once(200, "text/plain; charset=utf-8", text.encode())
            case b"GET", "/scripted/requests":
                # A request a line, for the eye.
                lines = [dumps(asdict(request)) for request in self.requests()]
                text = "[" + ",\n ".join(lines) + "]\n"
                return at_once(200, "application/json", text.encode())
            case b"DELETE", "/scripted/requests":
                self.reset()
                return in_json(200, [])
            case b"POST", "/scripted/go":
                self.go(Go.model_validate_json(body).tokens)
                return in_json(200, {})
            case _:
                return in_json(404, chat.error(404, "There is no such path."))

    def _prepare(
        self,
        connection: Connection,
        format_: Format,
        path: str,
        asked: Asked,
        *,
        has_key: bool,
    ) -> Play:
        """Find the scenario, write the request down and say what the answer is."""
        name = asked.model if asked.model in self.scenarios else DEFAULT
        scenario = self.scenarios[name]
        request = self._record.add(
            path, name, asked.model, stream=bool(asked.stream), has_key=has_key
        )
        tokens = scenario.said()
        answer = Answer(
            number=request.id,
            model=asked.model,
            tokens=tokens[: asked.limit],
            tools=[tool.name for tool in scenario.tools],
            cut=asked.limit is not None and asked.limit < len(tokens),
            silences=scenario.silences,
            usage=asked.wants_usage(),
            input_tokens=scenario.input_tokens,
            cached_tokens=scenario.cached_tokens,
        )
        status = scenario.status
        if scenario.fails:
            # So many are refused, then one is answered, and so on.
            turn = self._record.turn(request) % (scenario.fails + 1)
            if turn == scenario.fails:
                status = None
        return Play(
            connection,
            scenario,
            format_,
            answer,
            request,
            status,
            self._record,
            self._gate,
            self.pace,
        )

    async def _play(self, play: Play) -> None:
        """Play an answer until it ends, or until the client leaves.

        Raises:
            ConnectionResetError: the client has left.
        """
        performing = asyncio.create_task(play.perform())
        gone = asyncio.create_task(play.connection.gone())
        try:
            await asyncio.wait({performing, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            performing.cancel()
            gone.cancel()
            error, _ = await asyncio.gather(performing, gone, return_exceptions=True)
        if error is None:
            return
        if not isinstance(error, asyncio.CancelledError | ConnectionError):
            raise error
        if not play.request.finished:
            made = play.request.tokens_made
            self._record.note(play.request, hung_up_after=made, ended=LEFT)
        raise ConnectionResetError


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
    """Serve on a socket that listens, until Ctrl+C."""
    provider = Provider(scenarios)

    async def serve() -> None:
        await provider.start(listener)
        try:
            await asyncio.Event().wait()
        finally:
            await provider.stop()

    with suppress(KeyboardInterrupt):
        asyncio.run(serve())
