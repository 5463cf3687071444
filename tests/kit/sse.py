"""A strict reader of Server-Sent Events, independent of what the recipes use.

It follows the WHATWG HTML standard, 9.2.5 "Parsing an event stream" and 9.2.6
"Interpreting an event stream", to the letter, as a browser does; the parsers of the
Python clients are more forgiving, so a test that uses those can pass while the page
in the browser waits for ever.

    parsed = parse(run.chunks)
    assert parsed.events[-1] == Event("end", "{}", "7")
"""

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple


class Event(NamedTuple):
    """One dispatched event; `id` is the last event ID at that moment."""

    event: str
    data: str
    id: str


@dataclass
class Parsed:
    """What a client knows at the end of a stream; `retry` is in milliseconds."""

    events: list[Event] = field(default_factory=list)
    retry: int | None = None
    last_event_id: str = ""


def parse(chunks: Iterable[bytes]) -> Parsed:
    """Read a whole stream; where the chunks are cut does not matter."""
    parsed = Parsed()
    event, data, last_id = "", list[str](), ""
    for line in _lines(chunks):
        if not line:
            # The ID counts even if the block has no data and dispatches nothing.
            parsed.last_event_id = last_id
            if data:
                name = event or "message"
                parsed.events.append(Event(name, "\n".join(data), last_id))
            event, data = "", []
            continue
        # A comment starts with a colon: its field name is empty, so nothing matches.
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            event = value
        elif name == "data":
            data.append(value)
        elif name == "id" and "\0" not in value:
            last_id = value
        elif name == "retry" and re.fullmatch("[0-9]+", value):
            parsed.retry = int(value)
    return parsed


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Decode and split at CRLF, LF or CR; an unterminated last line is not a line."""
    # "utf-8-sig" would eat two marks of a stream that has two, if a cut lies between.
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    line = list[str]()  # the parts of the unfinished line, joined once
    first, after_cr = True, False
    for chunk in chunks:
        text = decode(chunk)
        if first and text:
            text, first = text.removeprefix("\ufeff"), False
        if after_cr and text:
            text, after_cr = text.removeprefix("\n"), False
        # A CR ends its line at once; an LF that opens the next chunk belongs to it.
        after_cr = after_cr or text.endswith("\r")
        head, *rest = re.split(r"\r\n|\r|\n", text)
        line.append(head)
        for part in rest:
            yield "".join(line)
            line = [part]
