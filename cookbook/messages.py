"""Read what a stream says while it arrives: server-sent events, or lines of JSON.

Only what a browser would see is an event (WHATWG HTML, 9.2.6); what it would drop is
there too, as a fault. No message is kept longer than `LONGEST` bytes.
"""

import codecs
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

LONGEST = 1_048_576  # characters of one line, or of one event
LINES = {"application/x-ndjson", "application/ndjson", "application/jsonl"}
LINES |= {"application/x-jsonlines", "application/json-lines", "application/json-seq"}
EVENTS = "text/event-stream"
PINGS = {"ping", "heartbeat", "keepalive", "keep-alive", "keep_alive"}
FIELDS = {"event", "data", "id", "retry"}


@dataclass(frozen=True)
class Message:
    """One thing that a stream said.

    `kind` is "event", "ping", "line", or a fault: "no data" (an event that a browser
    drops), "stray" (a line of an event that is no field), "cut" (what came after the
    last whole message), "too long".
    """

    kind: str
    text: str
    name: str = ""  # of an event
    id: str = ""  # the last event ID at that moment
    has_id: bool = False  # whether this event set it


class Reader(Protocol):
    """What turns bytes into messages."""

    def read(self, body: bytes) -> Iterator[Message]:
        """Give the messages that `body` completes."""

    def end(self) -> Iterator[Message]:
        """Give what is left when the stream has ended."""


class Lines:
    """Splits text into lines, wherever the chunks are cut; `ends` is a pattern."""

    def __init__(self, ends: str) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._ends = re.compile(ends)
        self._line = list[str]()
        self._size = 0
        self._first = True
        self._after_cr = False

    def read(self, body: bytes) -> Iterator[str | None]:
        """Give each line that is complete; None for one that was too long to keep."""
        text = self._decode(body)
        if not text:
            return
        if self._first:
            text = text.removeprefix("\ufeff")
            self._first = False
        if self._after_cr:
            text = text.removeprefix("\n")
        self._after_cr = text.endswith("\r") and bool(self._ends.fullmatch("\r"))
        head, *rest = self._ends.split(text)
        self._keep(head)
        for part in rest:
            yield "".join(self._line) if self._size <= LONGEST else None
            self._line.clear()
            self._size = 0
            self._keep(part)

    def _keep(self, part: str) -> None:
        self._size += len(part)
        if self._size <= LONGEST:
            self._line.append(part)
        else:
            self._line.clear()

    @property
    def rest(self) -> str:
        """What came after the last end of a line."""
        return "".join(self._line)


@dataclass
class Events:
    """Reads server-sent events as a browser does."""

    _lines: Lines = field(default_factory=lambda: Lines(r"\r\n|\r|\n"))
    _name: str = ""
    _data: list[str] = field(default_factory=list)
    _size: int = 0
    _id: str = ""
    _has_id: bool = False
    _any: bool = False  # whether the block has a field

    def read(self, body: bytes) -> Iterator[Message]:
        """Give the events, the comments, and what is wrong."""
        for line in self._lines.read(body):
            if line is None:
                yield Message("too long", f"a line of more than {LONGEST:,} characters")
            elif line:
                yield from self._field(line)
            else:
                yield from self._dispatch()

    def _field(self, line: str) -> Iterator[Message]:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not name:
            yield Message("ping", value)
            return
        if name not in FIELDS:
            yield Message("stray", line)
            return
        self._any = True
        if name == "event":
            self._name = value
        elif name == "id" and "\0" not in value:
            self._id = value
            self._has_id = True
        elif name == "data":
            self._size += len(value)
            if self._size <= LONGEST:
                self._data.append(value)

    def _dispatch(self) -> Iterator[Message]:
        name = self._name or "message"
        if self._size > LONGEST:
            yield Message("too long", f"an event of {self._size:,} characters")
        elif self._data:
            kind = "ping" if name in PINGS else "event"
            text = "\n".join(self._data)
            yield Message(kind, text, name, self._id, self._has_id)
        elif self._name:
            yield Message("no data", "", name, self._id, self._has_id)
        self._name = ""
        self._data = []
        self._size = 0
        self._has_id = self._any = False

    def end(self) -> Iterator[Message]:
        """Give what a browser discards, because no blank line came after it."""
        if self._any or self._lines.rest:
            yield Message("cut", "\n".join([*self._data, self._lines.rest]), self._name)


class JsonLines:
    """Reads lines; an empty one is a ping."""

    def __init__(self) -> None:
        self._lines = Lines(r"\r?\n")

    def read(self, body: bytes) -> Iterator[Message]:
        """Give the lines."""
        for line in self._lines.read(body):
            if line is None:
                yield Message("too long", f"a line of more than {LONGEST:,} characters")
            elif line.strip("\r\x1e "):
                yield Message("line", line.strip("\r\x1e"))
            else:
                yield Message("ping", "")

    def end(self) -> Iterator[Message]:
        """Give the last line, if nothing ended it."""
        if self._lines.rest.strip():
            yield Message("cut", self._lines.rest)


class Text:
    """Reads nothing: text and bytes have no messages."""

    def read(self, _: bytes) -> Iterator[Message]:
        """Give nothing."""
        return iter(())

    def end(self) -> Iterator[Message]:
        """Give nothing."""
        return iter(())


def reader_of(media: str) -> Reader:
    """Give the reader of a media type."""
    if media == EVENTS:
        return Events()
    readers: dict[bool, Callable[[], Reader]] = {True: JsonLines, False: Text}
    return readers[media in LINES]()
