"""Show a stream in a terminal while it arrives, and say what it was.

With `--json` each line of the output is one JSON object with a `type`: "head", then
"chunk", "event", "ping", "line", "text" and "fault" as they come, "finding" and
"note" with `--check`, and "verdict" last, or "error" if nobody answered.
Nothing that the server sends reaches the terminal unescaped.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from textwrap import wrap
from typing import Any, NamedTuple

from rich.console import Console
from rich.text import Text

from cookbook.ask import Seen
from cookbook.messages import Message, Reader, reader_of
from cookbook.messages import Text as NoMessages
from cookbook.transcript import escape
from cookbook.watch import Arrival

SETTLE = 1.0  # seconds; what comes all at once after a longer wait was held back
MOMENT = 0.1  # of the time until the first byte: all within it came at once
ROWS = 8  # messages of one chunk that are shown
LONG = 200  # characters of a message that are shown; JSON has `KEPT`
KEPT = 65_536
MOST = 5_000  # messages that are kept
ROOM = 8_388_608  # characters of them
MATTER = (
    "content-type",
    "content-length",
    "transfer-encoding",
    "content-encoding",
    "content-range",
    "cache-control",
    "x-accel-buffering",
    "retry-after",
    "location",
    "server",
    "via",
)
# How `cookbook watch` ends, for scripts. 2 is typer's, for a wrong command line.
STATUS = {
    "streaming": 0,
    "no answer": 1,
    "refused": 3,
    "redirect": 3,
    "whole": 4,
    "buffered": 4,
    "closed early": 5,
    "silent": 6,
}
FOUND = 7  # `--check` has found something


class Said(NamedTuple):
    """A message, and when it was complete."""

    seconds: float
    message: Message


@dataclass
class Told:
    """What a stream has said: how many messages of each kind, and the first of them.

    The last one is kept too, since the end is what many questions are about.
    """

    reader: Reader = field(default_factory=NoMessages)
    counts: Counter[str] = field(default_factory=Counter)
    kept: list[Said] = field(default_factory=list)
    size: int = 0  # characters that are kept

    def hear(self, body: bytes, seconds: float) -> Iterator[Message]:
        """Give the messages that `body` completes, and keep them."""
        for message in self.reader.read(body):
            self.keep(message, seconds)
            yield message

    def keep(self, message: Message, seconds: float) -> None:
        """Count one message, and keep it if there is room."""
        self.counts[message.kind] += 1
        if len(self.kept) >= MOST or self.size > ROOM:
            self.kept.pop()
        self.kept.append(Said(seconds, message))
        self.size += len(message.text)

    @property
    def messages(self) -> int:
        """How many events or lines came."""
        return self.counts["event"] + self.counts["line"]


def at_once(first: float | None, last: float, pieces: int, messages: int) -> bool:
    """Tell whether something held a stream back until its end.

    The first byte came after more than `SETTLE` seconds, all others in the same moment,
    and several messages in one piece. `first` and `last` are in seconds.
    """
    if first is None or first < SETTLE or messages < 2 * max(pieces, 1):
        return False
    return last - first <= MOMENT * first


def verdict(seen: Seen, told: Told) -> str:
    """Say in one word what the stream was: a key of `STATUS`."""
    if not seen.status:
        return "no answer"
    if 300 <= seen.status < 400 and "location" in seen.headers:
        return "redirect"
    if not 200 <= seen.status < 300:
        return "refused"
    if seen.ending == "broken off":
        return "closed early"
    if "content-length" in seen.headers or seen.status == 204:
        return "whole"
    if not seen.arrivals:
        return "silent"
    if at_once(seen.first, seen.last, seen.arrivals, told.messages):
        return "buffered"
    if seen.ending == "complete" and seen.arrivals == 1:
        return "whole"
    return "streaming"


MEANT = {
    "streaming": "it arrives in chunks, as it is made",
    "refused": "the server did not agree",
    "redirect": "it is elsewhere; -L follows",
    "whole": "it came in one piece, which is no stream",
    "buffered": "it was held back, and then came all at once",
    "closed early": "the connection ended in the middle",
    "silent": "not one byte of a body came",
    "no answer": "nobody answered",
}


def counted(seen: Seen, told: Told) -> list[str]:
    """List how much came, in words."""
    nouns = {"event": "event", "line": "line", "ping": "ping"}
    said = [many(seen.arrivals, "chunk"), many(seen.size, "byte")]
    said += [many(told.counts[k], noun) for k, noun in nouns.items() if told.counts[k]]
    faults = sum(n for kind, n in told.counts.items() if kind not in nouns)
    return said + ([many(faults, "fault")] if faults else [])


def many(count: int, noun: str) -> str:
    """Write a number with its noun."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def summary(seen: Seen, told: Told) -> list[str]:
    """Give the lines that end the view: the verdict, how much, and when."""
    word = verdict(seen, told)
    first = "none" if seen.first is None else f"after {seen.first:.3f} s"
    times = f"first byte {first}, longest silence {seen.silence:.3f} s"
    ends = {"complete": "ended by the server", "left": "left by you"}
    end = f"{ends.get(seen.ending, seen.ending)} after {seen.seconds:.3f} s"
    lines = [f"{word}: {MEANT[word]}", ", ".join(counted(seen, told)), times, end]
    if word == "redirect":
        lines.insert(1, f"it is at {escape(seen.headers['location'])}")
    if seen.packed:
        lines.insert(1, f"the body is not {escape(seen.encoding)}: {seen.packed}")
    return lines


class View:
    """Prints a stream as it comes, as text or as lines of JSON."""

    def __init__(self, seen: Seen, console: Console, *, as_json: bool) -> None:
        self.seen = seen
        self.told = Told()
        self.console = console
        self.as_json = as_json
        self.over = False

    def emit(self, kind: str, **fields: Any) -> None:  # noqa: ANN401 - JSON's values
        """Print one line of JSON, if that was asked for; it is plain ASCII."""
        if self.as_json:
            line = json.dumps({"type": kind, **fields})
            self.console.file.write(line + "\n")
            self.console.file.flush()

    def print(self, line: str = "", style: str = "") -> None:
        """Print a line for people; no mark-up in it is obeyed."""
        if not self.as_json:
            self.console.print(Text(line, style), soft_wrap=True)

    def began(self) -> None:
        """Show the head."""
        seen = self.seen
        self.told = Told(reader_of(seen.media))
        headers = [(name.lower(), value) for name, value in seen.headers.multi_items()]
        self.emit(
            "head",
            method=seen.ask.method,
            url=seen.url,
            status=seen.status,
            seconds=round(seen.head, 6),
            headers=[list(pair) for pair in headers],
        )
        self.print(f"{escape(seen.ask.method)} {seen.url}", "bold")
        answer = f"{seen.status} {escape(seen.reason)}".strip()
        self.print(f"{answer} after {seen.head:.3f} s ({escape(seen.version)})")
        for name in MATTER:
            for value in [value for known, value in headers if known == name]:
                self.print(f"  {name}: {cut(value)}")
        self.print()
        self.print("   time s     gap s     bytes", "dim")

    def arrived(self, arrival: Arrival, pieces: list[bytes]) -> None:
        """Show one chunk, and what it has completed."""
        self.emit(
            "chunk",
            seconds=round(arrival.seconds, 6),
            gap=round(arrival.gap, 6),
            bytes=arrival.size,
        )
        row = f"{arrival.seconds:9.3f} {arrival.gap:9.3f} {arrival.size:9,}  "
        shown = 0
        for piece in pieces:
            for message in self.told.hear(piece, arrival.seconds):
                self.message(message, arrival.seconds)
                if shown < ROWS:
                    start = " " * len(row) if shown else row
                    self.print(start + described(message), style_of(message))
                shown += 1
        if shown > ROWS:
            self.print(" " * len(row) + f"… {shown - ROWS:,} more")
        if not shown:
            body = b"".join(pieces) if pieces else arrival.body
            text = body[: 4 * LONG].decode(self.seen.charset, "backslashreplace")
            is_text = isinstance(self.told.reader, NoMessages)
            if is_text:
                self.emit("text", seconds=round(arrival.seconds, 6), text=text)
            self.print(row + cut(text), "" if is_text else "dim")

    def message(self, message: Message, seconds: float) -> None:
        """Print a message as JSON."""
        known = message.kind in {"event", "ping", "line"}
        fields: dict[str, Any] = {"seconds": round(seconds, 6)}
        fields |= {} if known else {"fault": message.kind}
        fields |= {"event": message.name, "id": message.id} if message.name else {}
        self.emit(
            message.kind if known else "fault", **fields, data=message.text[:KEPT]
        )

    def ended(self) -> None:
        """Show what was left over, and the verdict; once."""
        if self.over or not self.seen.status:
            return
        self.over = True
        if self.seen.ending != "left":
            for message in self.told.reader.end():
                self.told.keep(message, self.seen.seconds)
                self.message(message, self.seen.seconds)
                self.print(" " * 31 + described(message), style_of(message))
        self.print()
        head, *rest = summary(self.seen, self.told)
        good = verdict(self.seen, self.told) == "streaming"
        self.print(head, "bold green" if good else "bold red")
        for line in rest:
            self.print(f"  {line}")

    def finding(self, code: str, parts: dict[str, str]) -> None:
        """Show one finding: its name, and its parts by label."""
        self.emit("finding", finding=code, **parts)
        self.print()
        self.print(code, "bold yellow")
        for label, text in parts.items():
            whole = label == "page"  # An address that is cut cannot be opened.
            lines = [text] if whole else wrap(text, 80, break_on_hyphens=False)
            for n, line in enumerate(lines):
                self.print(f"  {'' if n else label:5} {line}")

    def noted(self, notes: dict[str, str]) -> None:
        """Show what could not be judged, and why."""
        for code, reason in notes.items():
            self.emit("note", finding=code, why=reason)
            self.print(f"not judged: {code} ({reason})", "dim")

    def judged(self, status: int, findings: list[str]) -> None:
        """Print the verdict as the last line of JSON."""
        seen = self.seen
        self.emit(
            "verdict",
            verdict=verdict(seen, self.told),
            findings=findings,
            exit=status,
            ending=seen.ending,
            seconds=round(seen.seconds, 6),
            first_byte=None if seen.first is None else round(seen.first, 6),
            longest_silence=round(seen.silence, 6),
            chunks=seen.arrivals,
            bytes=seen.size,
            events=self.told.counts["event"],
            lines=self.told.counts["line"],
            pings=self.told.counts["ping"],
        )


def cut(text: str, limit: int = LONG) -> str:
    """Make a text of the server's safe to print, and not too long."""
    # escape() makes at most ten characters of one, so cut before and after.
    safe = escape(text[:limit])
    return safe[:limit] + (" …" if len(text) > limit or len(safe) > limit else "")


def described(message: Message) -> str:
    """Write a message in one line."""
    if message.kind == "event":
        head = "event " + cut(message.name)
        head += f" · id {cut(message.id)}" if message.has_id else ""
        return f"{head} · {cut(message.text)}"
    if message.kind == "ping":
        said = f"event {message.name}" if message.name else cut(message.text)
        return f"ping · {said}" if said else "ping"
    if message.kind == "line":
        return cut(message.text)
    words = {
        "no data": f"event {cut(message.name)} without data: a browser drops it",
        "stray": f"no field of an event: {cut(message.text)}",
        "cut": f"cut off: {cut(message.text)}",
    }
    return words.get(message.kind, cut(message.text))


def style_of(message: Message) -> str:
    """Choose the colour of a message."""
    if message.kind == "ping":
        return "dim"
    return "" if message.kind in {"event", "line"} else "yellow"
