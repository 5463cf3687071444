"""One answer of the scripted provider, played as its scenario says."""

import asyncio
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

import h11

from cookbook.llm import faults
from cookbook.llm.connection import Connection, Reset, Step, head, in_json
from cookbook.llm.formats.answer import BROKE_OFF, Answer, Event, Format, dumps, frame
from cookbook.llm.record import Record, Request
from cookbook.llm.scenario import Scenario, ending


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


@dataclass
class Play:
    """What the provider does in one request.

    `status` is that of a refusal, None if there is none. `pace` is a factor for all
    seconds of the scenario.
    """

    connection: Connection
    scenario: Scenario
    format: Format
    answer: Answer
    request: Request
    status: int | None
    record: Record
    gate: Gate
    pace: float
    waiting: list[bytes] = field(default_factory=list)  # events for the next chunk
    gzip: faults.Gzip = field(default_factory=faults.Gzip)

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

    @property
    def encoding(self) -> list[tuple[str, str]]:
        """The header field that says how the body is packed, if it is."""
        if self.fault == "gzip-bomb":
            return [("Content-Encoding", "gzip")]
        return []

    async def perform(self) -> None:
        """Answer the request."""
        if self.status:
            await self.refuse(self.status)
        elif self.fault == "no-head":
            await faults.stall()
        elif self.request.stream:
            await self.stream()
        else:
            await self.whole()

    # The three ways to answer

    async def refuse(self, status: int) -> None:
        """Refuse with a status."""
        error = self.format.error(status, self.scenario.about)
        headers = [*self.headers, *self.scenario.headers.items()]
        await self.send_all(in_json(status, error, headers))

    async def whole(self) -> None:
        """Answer in one piece; what is to break, breaks in the middle of it."""
        tokens = len(self.answer.tokens)
        if self.fault:
            tokens = self.scenario.after
        for _ in range(tokens):
            await self.make()
        if self.fault == "stall":
            await faults.stall()
        if self.fault == "error":
            error = self.format.error(500, BROKE_OFF)
            await self.send_all(in_json(500, error, self.headers))
            return
        text = dumps(self.format.whole(self.answer))
        for event in self.odd_events()[:1]:
            text = str(event.data)
        body = text.encode()
        if self.fault:
            body = faults.half(body)
        headers = [*self.headers, *self.encoding]
        await self.send(head(200, "application/json", headers))
        await self.send_data(body)
        await self.end()

    async def stream(self) -> None:
        """Answer event by event, until a fault ends it."""
        headers = [*self.headers, *self.encoding, ("Cache-Control", "no-cache")]
        await self.send(head(200, "text/event-stream; charset=utf-8", headers))
        odd = self.odd_events()
        sent = 0
        for event in self.format.stream(self.answer):
            if self.is_due_before(event):
                for odd_event in odd:
                    await self.send_event(self.framed(odd_event))
                odd = []  # They come once.
                if self.fault:
                    await self.break_off(event, sent)
                    break
            if event.token:
                await self.make()
            if event.data is not None:
                await self.send_event(self.framed(event))
                sent += 1
        await self.flush()
        await self.end()

    def is_due_before(self, event: Event) -> bool:
        """Say whether what comes after so many tokens has to come before this event."""
        made = self.request.tokens_made
        at_last = made == len(self.answer.tokens)
        return made == self.scenario.after and (event.token or at_last)

    def odd_events(self) -> list[Event]:
        """Give the events of the scenario that no model makes."""
        texts = list(self.scenario.raw)
        if self.scenario.nested:
            texts.append("[" * self.scenario.nested + "]" * self.scenario.nested)
        delta = self.format.delta
        return [Event(text, delta and faults.name_of(text, delta)) for text in texts]

    async def break_off(self, event: Event, sent: int) -> None:
        """Send what the fault says in place of an event, after so many events."""
        if self.fault == "half-event":
            await self.send_event(faults.half(self.framed(event)))
        if self.fault == "error":
            for failure in self.format.failure(self.answer, sent):
                await self.send_event(self.framed(failure))

    async def make(self) -> None:
        """Make one token; even without a pause it lets the others have a turn."""
        await asyncio.sleep(self.scenario.pause * self.pace)
        if self.scenario.gate:
            await self.gate.pass_one()
        self.record.note(self.request, tokens_made=self.request.tokens_made + 1)

    # From events to the connection

    def framed(self, event: Event) -> bytes:
        """Write an event, with the line ends of the scenario."""
        return frame(event, faults.LINE_ENDS[self.scenario.line_end])

    async def send_event(self, data: bytes) -> None:
        """Send an event, together with the others that share its chunk."""
        self.waiting.append(data)
        if len(self.waiting) == self.scenario.join:
            await self.flush()

    async def flush(self) -> None:
        """Send the events that wait for others."""
        if self.waiting:
            await self.send_data(b"".join(self.waiting))
            self.waiting.clear()

    async def send_data(self, data: bytes) -> None:
        """Send a part of the body, packed and cut into chunks as the scenario says."""
        if self.fault == "gzip-bomb":
            data = self.gzip.part(data)
        for piece in faults.cut(data, self.scenario.cut):
            await self.send(h11.Data(data=piece))

    async def send_all(self, steps: Iterable[Step]) -> None:
        """Send a whole response."""
        for step in steps:
            await self.send(step)

    async def end(self) -> None:
        """End the response, properly or not."""
        match self.fault:
            case "stall":
                await faults.stall()
            case "reset":
                await self.send(Reset())
                return
            case "endless-line":
                await self.send_line(faults.endless_line())
            case "gzip-bomb":
                await self.send_line(faults.long_line(self.scenario.unpacks_to))
                await self.send(h11.Data(data=self.gzip.end()))
        await self.send(h11.EndOfMessage())

    async def send_line(self, parts: Iterable[bytes]) -> None:
        """Send parts as fast as they are read; others have a turn after each."""
        for data in parts:
            await self.send_data(data)
            await asyncio.sleep(0)

    async def send(self, step: Step) -> None:
        """Send one step of the response, after a pause if it is to drip."""
        # Noted first, so that who has seen the end finds it noted.
        if isinstance(step, h11.EndOfMessage | Reset):
            end = ending(self.status, self.fault)
            self.record.note(self.request, finished=True, ended=end)
        if self.scenario.drip:
            await asyncio.sleep(self.scenario.drip * self.pace)
        await self.connection.send(step)
