"""One answer of the scripted provider, played as its scenario says."""

import asyncio
import threading
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

import h11

from cookbook.llm import faults
from cookbook.llm.connection import Connection, Reset, Step, head, in_json
from cookbook.llm.formats.answer import BROKE_OFF, Answer, Event, Format, dumps, frame
from cookbook.llm.record import Record, Request
from cookbook.llm.scenario import Scenario, ending

Steps = AsyncGenerator[Step, None]


class Gate:
    """Lets tokens through, as many as it is told; any thread may open it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()  # guards the number of tokens
        self._tokens = 0
        self._opened = asyncio.Event()

    def open(self, tokens: int) -> None:
        """Let so many tokens more through."""
        with self._lock:
            self._tokens += tokens
        self._loop.call_soon_threadsafe(self._opened.set)

    async def pass_one(self) -> None:
        """Wait until one token may pass."""
        while not self._take():
            self._opened.clear()
            await self._opened.wait()

    def _take(self) -> bool:
        with self._lock:
            if self._tokens == 0:
                return False
            self._tokens -= 1
            return True


@dataclass(frozen=True)
class Play:
    """What the provider does in one request.

    `status` is that of a refusal, None if there is none. `pace` is a factor for all
    seconds of the scenario.
    """

    scenario: Scenario
    format: Format
    answer: Answer
    request: Request
    status: int | None
    record: Record
    gate: Gate
    pace: float

    @property
    def fault(self) -> str | None:
        """The fault, unless the request asked for so few tokens that it never comes."""
        if self.scenario.after > len(self.answer.tokens):
            return None
        return self.scenario.fault

    @property
    def headers(self) -> list[tuple[str, str]]:
        """The header fields of every response to a request for tokens."""
        return [(self.format.request_id, f"req_{self.request.id}")]

    async def perform(self, connection: Connection) -> None:
        """Send the answer, and note how it ended."""
        async with aclosing(self.steps()) as steps:
            async for step in steps:
                # Noted first, so that who has seen the end finds it noted.
                if isinstance(step, h11.EndOfMessage | Reset):
                    end = ending(self.status, self.fault)
                    self.record.note(self.request, finished=True, ended=end)
                if isinstance(step, h11.Data):
                    await self.send_data(connection, step.data)
                else:
                    await self.send(connection, step)

    async def send_data(self, connection: Connection, data: bytes) -> None:
        """Send a part of the body, cut into chunks as the scenario says."""
        for piece in faults.cut(data, self.scenario.cut):
            await self.send(connection, h11.Data(data=piece))

    async def send(self, connection: Connection, step: Step) -> None:
        """Send one step, after a pause if the body is to drip."""
        if self.scenario.drip:
            await asyncio.sleep(self.scenario.drip * self.pace)
        await connection.send(step)

    def steps(self) -> Steps:
        """Choose what is sent."""
        if self.status:
            return self.refusal(self.status)
        if self.request.stream:
            return self.stream()
        return self.whole()

    async def refusal(self, status: int) -> Steps:
        """Refuse with a status."""
        error = self.format.error(status, self.scenario.about)
        headers = [*self.headers, *self.scenario.headers.items()]
        for step in in_json(status, error, headers):
            yield step

    async def whole(self) -> Steps:
        """Answer in one piece; what is to break, breaks in the middle of it."""
        tokens = len(self.answer.tokens)
        if self.fault:
            tokens = self.scenario.after
        for _ in range(tokens):
            await self.make()
        if self.fault == "error":
            for step in in_json(500, self.format.error(500, BROKE_OFF), self.headers):
                yield step
            return
        if self.fault == "stall":
            await faults.stall()
        body = dumps(self.format.whole(self.answer)).encode()
        if self.fault:
            body = faults.half(body)
        yield head(200, "application/json", self.headers)
        yield h11.Data(data=body)
        yield self.last_step()

    async def stream(self) -> Steps:
        """Answer event by event."""
        headers = [*self.headers, ("Cache-Control", "no-cache")]
        yield head(200, "text/event-stream; charset=utf-8", headers)
        waiting: list[bytes] = []
        async with aclosing(self.events()) as events:
            async for data in events:
                waiting.append(data)
                if len(waiting) == self.scenario.join:
                    yield h11.Data(data=b"".join(waiting))
                    waiting.clear()
        if waiting:
            yield h11.Data(data=b"".join(waiting))
        if self.fault == "stall":
            await faults.stall()
        yield self.last_step()

    async def events(self) -> AsyncGenerator[bytes, None]:
        """Give the events of the stream, each in bytes, until a fault ends it."""
        sent = 0
        for event in self.format.stream(self.answer):
            if self.fault and self.is_due_before(event):
                if self.fault == "half-event":
                    yield faults.half(self.framed(event))
                if self.fault == "error":
                    for failure in self.format.failure(self.answer, sent):
                        yield self.framed(failure)
                return
            if event.token:
                await self.make()
            if event.data is not None:
                yield self.framed(event)
                sent += 1

    def is_due_before(self, event: Event) -> bool:
        """Say whether what comes after so many tokens has to come before this event."""
        made = self.request.tokens_made
        at_last = made == len(self.answer.tokens)
        return made == self.scenario.after and (event.token or at_last)

    def framed(self, event: Event) -> bytes:
        """Write an event, with the line ends of the scenario."""
        return frame(event, faults.LINE_ENDS[self.scenario.line_end])

    def last_step(self) -> Step:
        """End the response properly, or not."""
        if self.fault == "reset":
            return Reset()
        return h11.EndOfMessage()

    async def make(self) -> None:
        """Make one token; even without a pause it lets the others have a turn."""
        await asyncio.sleep(self.scenario.pause * self.pace)
        if self.scenario.gate:
            await self.gate.pass_one()
        self.record.note(self.request, tokens_made=self.request.tokens_made + 1)
