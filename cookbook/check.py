"""Say what is wrong with a stream, also with one that is not ours.

    doctor = Check(Ask("http://127.0.0.1:8000/events"))
    status = asyncio.run(...)  # as `cookbook watch --check` does

First the stream is watched. Then, if asking again changes nothing on the server, it is
asked up to five times more: as a client that understands gzip, and as a browser that
reconnects. Each finding is a key of `ADVICE`, and has what was seen.
"""

import codecs
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

from cookbook.ask import Ask, NoAnswerError, Seen, record
from cookbook.messages import EVENTS, LINES, Message, reader_of
from cookbook.transcript import escape
from cookbook.view import (
    FOUND,
    SETTLE,
    STATUS,
    Told,
    View,
    at_once,
    cut,
    many,
    verdict,
)
from cookbook.watch import Arrival

SILENCE = 15.0  # seconds; proxies cut a silent connection after 30 to 60
LIVE = 5.0  # seconds; a shorter body can be held back by no more than that
PATIENCE = 5.0  # seconds until a reconnect must have brought what is there
ENOUGH = 8_388_608  # bytes that are looked at
SITE = "http://127.0.0.1:8080"  # where `make serve` serves the pages
SECRETS = {"token", "access_token", "api_key", "apikey", "key", "jwt", "session"}
SECRETS |= {"auth", "password", "secret", "signature"}
VALIDATED = {"etag", "last-modified", "accept-ranges", "content-range"}
NO_STREAM = {"text/html", "text/css", "text/javascript", "text/xml"}
OBJECT = re.compile(r"\{\s*[\"'].*\}", re.DOTALL)  # data that is meant as JSON
MARK = re.compile(
    r'"finish_?reason"\s*:\s*"|"(done|complete|completed|final|finished)"\s*:\s*true',
    re.IGNORECASE,
)
FRAMED = re.compile(rb"(?:^|\n)data:[^\n]*\r?\n(?:[a-z]+:[^\n]*\r?\n)*\r?\n")


@dataclass(frozen=True)
class Advice:
    """Why a finding matters, what to do, and the page of the site that says more."""

    why: str
    do: str
    page: str


@dataclass(frozen=True)
class Found:
    """Something that is wrong: a key of `ADVICE`, and what was seen of it."""

    code: str
    seen: str


ADVICE = {
    "status": Advice(
        "No stream begins, and an EventSource gives up for good.",
        "Ask as the server wants it: -X, -H, -d and -L are curl's.",
        "/learn/watch/#how-it-ends",
    ),
    "closed-early": Advice(
        "A client has a part and cannot know what is missing.",
        "Look for an exception in the server's log. Catch it in the generator, and send"
        " a last message that says so.",
        "/recipes/mid_stream_errors/#end-with-an-item-that-says-how-it-ended",
    ),
    "silent": Advice(
        "A client cannot tell a stream that works from one that hangs.",
        "Send something at once: a comment, or the state so far.",
        "/recipes/sse_keepalive/#put-pings-into-the-silence",
    ),
    "not-streamed": Advice(
        "Somebody had the whole body before the head was sent: the first message waits"
        " for the last.",
        "Yield from the endpoint instead of returning the joined body, and look for a"
        " middleware that joins it.",
        "/production/diagnosis/#2-the-application-without-a-server",
    ),
    "buffered": Advice(
        "Nobody sees the first message before the last one is made.",
        "Go through the layers from the inside to the outside: generator, middleware,"
        " proxy.",
        "/production/diagnosis/",
    ),
    "compression-buffers": Advice(
        "Browsers ask for compression, so they see nothing until the end; curl without"
        " --compressed does not show it.",
        "Flush after each chunk, or do not compress this stream.",
        "/recipes/stream_middleware/#compress-without-holding-back",
    ),
    "bad-encoding": Advice(
        "A browser shows ERR_CONTENT_DECODING_FAILED and nothing of the body.",
        "Send the bytes packed as the header says, or leave the header out.",
        "/recipes/http_proxy/#pass-only-the-fields-that-you-know",
    ),
    "content-type": Advice(
        "An EventSource accepts text/event-stream only, and other clients choose their"
        " parser by the type.",
        "Send text/event-stream for events and application/jsonl for lines of JSON.",
        "/recipes/sse_basic/#write-them-by-hand",
    ),
    "no-events": Advice(
        "A browser finds no event in this, so its page never hears anything.",
        "Write each message as `data: …` and an empty line, or send another type.",
        "/recipes/sse_basic/#write-them-by-hand",
    ),
    "no-anti-buffering": Advice(
        "nginx, and proxies built on it, collect a response unless told not to.",
        "Send the header X-Accel-Buffering: no with the response.",
        "/production/diagnosis/#5-the-proxy",
    ),
    "no-keep-alive": Advice(
        "Proxies and phones close a connection on which nothing moves, often after 30"
        " to 60 seconds.",
        "Send a comment or a ping whenever nothing else was sent for 15 seconds.",
        "/recipes/sse_keepalive/#put-pings-into-the-silence",
    ),
    "resume-refused": Advice(
        "A browser that reconnects sends the last id; one such answer, and it never"
        " asks again.",
        "Accept every id as text. Begin anew if you do not know it.",
        "/recipes/sse_resumable/#answer-every-id-and-end-for-good",
    ),
    "resume-ignored": Advice(
        "After each reconnect a client gets again what it has had.",
        "Read the header Last-Event-ID and go on after it. Answer 204 after the end.",
        "/recipes/sse_resumable/#read-old-and-new-events-in-one-loop",
    ),
    "resume-lost": Advice(
        "What was sent while a client was away never reaches it.",
        "Keep the latest events, and send those after the id first.",
        "/recipes/sse_resumable/#keep-the-latest-events",
    ),
    "ids-change": Advice(
        "The id of an event depends on the connection, so the next reconnect goes on"
        " at the wrong place.",
        "Take the id from where the event is stored, not from a count of what was"
        " sent.",
        "/recipes/sse_resumable/#keep-the-latest-events",
    ),
    "no-end": Advice(
        "An EventSource takes the end for a lost connection and asks again, for ever;"
        " other clients cannot tell the end from a failure.",
        "Send a last event with a name of its own, such as `end`, and data; close at"
        " it. Or answer 204 to the id of the last event.",
        "/recipes/sse_basic/#end-the-feed",
    ),
    "event-without-data": Advice(
        "A browser drops an event without data; parsers in Python deliver it, so tests"
        " may pass.",
        "Send `data: {}` with it.",
        "/recipes/sse_basic/#end-the-feed",
    ),
    "event-named-error": Advice(
        "EventSource calls its own failures `error` too, so the page cannot tell them"
        " apart.",
        "Give it another name, such as `failed`.",
        "/recipes/mid_stream_errors/#end-with-an-item-that-says-how-it-ended",
    ),
    "stray-line": Advice(
        "A line end inside the data has ended the field; what follows is lost, or"
        " forges an event.",
        "Encode the data as JSON, or write `data: ` in front of each of its lines.",
        "/recipes/sse_basic/#write-them-by-hand",
    ),
    "cut-event": Advice(
        "A browser discards what no empty line ends.",
        "End each event with an empty line, the last one too.",
        "/recipes/sse_basic/#write-them-by-hand",
    ),
    "bad-json": Advice(
        "JSON.parse fails on it, and with it the client.",
        "Let a library write the JSON: json.dumps, or FastAPI's own `data=`.",
        "/recipes/sse_basic/#hand-them-to-sse-starlette",
    ),
    "garbled": Advice(
        "A character was cut in two, or was decoded chunk by chunk and lost.",
        "Decode with an incremental decoder; send UTF-8.",
        "/recipes/chunk_framing/#cut-bytes-first-decode-afterwards",
    ),
    "too-long": Advice(
        "Clients limit what they keep, and end the stream or run out of memory.",
        "Send smaller messages, or an address where the large thing is.",
        "/recipes/chunk_framing/#do-work-that-grows-with-the-input-and-no-faster",
    ),
    "range-ignored": Advice(
        "A download that breaks off begins at the first byte again.",
        "Answer 206 with the range that was asked for; FileResponse does.",
        "/recipes/file_download/#when-fileresponse-is-better",
    ),
    "secret-in-address": Advice(
        "Addresses are written to access logs, also by proxies that are not yours.",
        "Use a cookie, a header, or a ticket that holds once and for seconds.",
        "/recipes/stream_limits/",
    ),
}


@dataclass
class Run:
    """One request, and all that is known of its answer."""

    seen: Seen
    told: Told = field(default_factory=Told)

    @property
    def ok(self) -> bool:
        """Whether the status promises a body."""
        return 200 <= self.seen.status < 300

    @property
    def events(self) -> list[Message]:
        """The events that were kept, without pings."""
        return [said.message for said in self.told.kept if said.message.kind == "event"]

    def having(self, kind: str) -> list[Message]:
        """List the kept messages of one kind."""
        return [said.message for said in self.told.kept if said.message.kind == kind]

    async def ask(
        self, seconds: float | None, until: Callable[["Run"], bool] = lambda _: False
    ) -> "Run":
        """Ask, until the answer ends, the time is over, or `until` holds.

        Raises NoAnswerError.
        """

        def began() -> None:
            self.told = Told(reader_of(self.seen.media))

        def arrived(arrival: Arrival, pieces: list[bytes]) -> bool:
            for piece in pieces:
                for _ in self.told.hear(piece, arrival.seconds):
                    pass
            return self.seen.size > ENOUGH or until(self)

        await record(self.seen, seconds=seconds, began=began, arrived=arrived)
        return self


# What can be seen of one answer ------------------------------------------------------


def of_the_request(run: Run) -> Iterator[Found]:
    """Look at what was asked, and at the status."""
    seen = run.seen
    for name, _ in parse_qsl(urlsplit(seen.ask.url).query):
        if name.lower() in SECRETS:
            yield Found("secret-in-address", f"the address holds `{cut(name)}=`")
    if not run.ok:
        where = escape(seen.headers.get("location", ""))
        there = f", and the answer names {where}" if where else ""
        yield Found("status", f"the status is {seen.status}{there}")
    asked = {name.lower() for name, _ in seen.ask.headers}
    if "range" in asked and seen.status == 200:
        yield Found("range-ignored", "a range was asked for, and the status is 200")


def of_the_body(run: Run) -> Iterator[Found]:
    """Look at how the body came."""
    seen = run.seen
    if seen.ending == "broken off":
        yield Found("closed-early", f"the connection ended after {seen.size:,} bytes")
    elif not seen.arrivals and seen.ending == "left":
        yield Found("silent", f"no byte came in {seen.seconds:.1f} s after the head")
    if came_whole(run):
        length = cut(seen.headers["content-length"])
        yield Found("not-streamed", f"the head says Content-Length: {length}")
    if seen.packed:
        said = f"the head says {cut(seen.encoding)}, and the body is not: {seen.packed}"
        yield Found("bad-encoding", said)
    elif seen.encoding and held(run):
        yield Found("compression-buffers", held_back(run))


def came_whole(run: Run) -> bool:
    """Tell whether what should be a stream has a length, and is no file."""
    seen = run.seen
    if "content-length" not in seen.headers or not seen.size:
        return False
    if VALIDATED & {name.lower() for name in seen.headers}:
        return False
    text = seen.media.startswith("text/") and seen.media not in NO_STREAM
    return seen.media in LINES | {EVENTS} or (seen.ask.method == "GET" and text)


def held(run: Run) -> bool:
    """Tell whether a compressed body gave nothing for long, and then everything."""
    seen = run.seen
    if seen.unpacked is None:
        return bool(seen.arrivals) and seen.seconds - seen.head >= SETTLE
    return seen.unpacked - seen.head >= SETTLE and at_once(
        seen.unpacked, seen.last, 1, max(run.told.messages, 2)
    )


def held_back(run: Run) -> str:
    """Say when the first unpacked byte came."""
    seen = run.seen
    if seen.unpacked is None:
        said = f"in {seen.seconds:.1f} s nothing could be unpacked"
    else:
        said = f"nothing could be unpacked for {seen.unpacked:.1f} s"
    return f"{said} of {cut(seen.encoding)}"


def of_the_head(run: Run) -> Iterator[Found]:
    """Look at the header fields that a stream needs."""
    seen = run.seen
    start = bytes(seen.start)
    named = cut(seen.media) or "missing"
    if seen.media != EVENTS and FRAMED.search(start):
        yield Found("content-type", f"these are events, and the type is {named}")
    elif start and not seen.media:
        yield Found("content-type", "the header Content-Type is missing")
    elif seen.media == "application/json" and is_json_lines(start):
        yield Found("content-type", f"these are lines of JSON, and the type is {named}")
    if "content-length" in seen.headers or not seen.arrivals:
        return
    said = seen.headers.get("x-accel-buffering", "").strip().lower()
    lasts = seen.last - (seen.first or 0.0) >= LIVE
    if said != "no" and (seen.media == EVENTS or lasts):
        word = f"is {cut(said)!r}" if said else "is missing"
        yield Found("no-anti-buffering", f"the header X-Accel-Buffering {word}")


def is_json_lines(start: bytes) -> bool:
    """Tell whether a body begins with two objects, each on a line."""
    first, *more = start.split(b"\n")
    return (
        bool(more) and all(is_json(x) for x in (first, more[0])) and first[:1] == b"{"
    )


def is_json(text: str | bytes) -> bool:
    """Tell whether a text is JSON."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def of_the_messages(run: Run) -> Iterator[Found]:
    """Look at each message as a browser reads it."""
    seen = run.seen
    counts = run.told.counts
    if seen.media == EVENTS:
        known = sum(counts[kind] for kind in ("event", "ping", "no data"))
        if not known and (counts["stray"] or seen.ending == "complete"):
            yield Found("no-events", f"no event in {many(seen.size, 'byte')}")
            return
    for kind, code in FAULTS.items():
        if counts[kind] and not (kind == "cut" and seen.ending == "broken off"):
            yield Found(code, f"{counts[kind]:,} times: {example(run, kind)}")
    if any(message.name == "error" for message in run.events):
        yield Found("event-named-error", "an event has the name `error`")
    for message in (said.message for said in run.told.kept):
        is_meant = message.kind == "line" or OBJECT.fullmatch(message.text)
        if message.kind in {"event", "line"} and is_meant and not is_json(message.text):
            yield Found("bad-json", f"this is no JSON: {cut(message.text, 60)}")
            break


FAULTS = {
    "no data": "event-without-data",
    "stray": "stray-line",
    "cut": "cut-event",
    "too long": "too-long",
}


def example(run: Run, kind: str) -> str:
    """Show the first message of a kind."""
    first = run.having(kind)[:1]
    text = first[0].name or first[0].text if first else "…"
    return cut(text, 60)


def of_the_text(run: Run) -> Iterator[Found]:
    """Look for characters that were lost."""
    seen = run.seen
    start = bytes(seen.start)
    textual = seen.media.startswith("text/") or seen.media in {"", *LINES}
    if not textual or b"\0" in start or seen.packed:
        return
    # An incremental decoder leaves out what the end of `start` cuts: that is no fault.
    text = codecs.getincrementaldecoder(seen.charset)("replace").decode(start)
    at = text.find("\ufffd")
    if at >= 0:
        yield Found("garbled", f"near {cut(text[max(0, at - 10) : at + 11])!r}")


LOOKS: list[Callable[[Run], Iterator[Found]]] = [
    of_the_request,
    of_the_body,
    of_the_head,
    of_the_messages,
    of_the_text,
]


def is_apart(events: list[Message]) -> bool:
    """Tell whether the last event says that it is the last.

    It does so by a name or a `type` that no other has, by `[DONE]` as in OpenAI's
    format, or by a reason why the answer is finished.
    """
    if not events:
        return False
    *others, last = events
    if last.text.strip() == "[DONE]" or MARK.search(last.text):
        return True
    if not others:
        return last.name != "message"
    return kind_of(last) not in {kind_of(event) for event in others}


def kind_of(event: Message) -> tuple[str, str]:
    """Give the name of an event, and the `type` that its data may hold."""
    try:
        data = json.loads(event.text)
    except (ValueError, RecursionError):
        data = None
    return event.name, str(data.get("type", "")) if isinstance(data, dict) else ""


# What only another request shows -----------------------------------------------------


class Check:
    """Watches a stream, and says what is wrong with it.

    `seconds` limit the watching; `silence` is how long nothing may come.
    """

    def __init__(
        self, ask: Ask, *, seconds: float | None = None, silence: float = SILENCE
    ) -> None:
        self.watched = Run(Seen(ask))
        self.seconds = seconds
        self.silence = silence
        self.found = list[Found]()
        self.notes = dict[str, str]()  # what could not be looked at, and why
        self.ended_with_204 = False

    @property
    def seen(self) -> Seen:
        """What is known of the first answer."""
        return self.watched.seen

    async def look(self) -> list[Found]:
        """Watch the stream without a view, and give all findings."""
        await self.watched.ask(self.seconds)
        self.finish()
        await self.diagnose()
        return self.found

    def finish(self) -> None:
        """Read what is left when the stream has ended."""
        if self.seen.ending != "left":
            for message in self.watched.told.reader.end():
                self.watched.told.keep(message, self.seen.seconds)

    async def diagnose(self) -> None:
        """Find all that is wrong with what was watched, asking again if need be."""
        run = self.watched
        for look in LOOKS[:1] if not run.ok else LOOKS:
            self.found += look(run)
        if not run.ok:
            return
        self.keep_alive()
        if verdict(run.seen, run.told) == "buffered":
            await self.buffered()
        await self.compression()
        await self.resume()
        self.end()

    def keep_alive(self) -> None:
        """Look for a silence without a ping."""
        seen = self.seen
        if "content-length" in seen.headers:
            return
        if seen.silence >= self.silence:
            said = f"nothing came for {seen.silence:.1f} s, not even a ping"
            self.found.append(Found("no-keep-alive", said))
        elif seen.ending == "left" and seen.seconds < self.silence:
            why = f"it was watched for {seen.seconds:.1f} s; --seconds gives it longer"
            self.notes["no-keep-alive"] = why

    async def buffered(self) -> None:
        """Ask once more: a server that starts slowly is fast the second time."""
        first = f"all came after {self.seen.first or 0:.1f} s, in one moment"
        if self.seen.ask.can_be_repeated:
            again = await self.again(self.seen.ask, self.seconds)
            if again is None or verdict(again.seen, again.told) != "buffered":
                return
            first += ", twice"
        self.found.append(Found("buffered", first))

    async def compression(self) -> None:
        """Ask as a browser does, and see whether gzip holds the stream back."""
        seen = self.seen
        if seen.encoding or "content-length" in seen.headers or seen.first is None:
            return
        if not seen.ask.can_be_repeated:
            self.notes["compression-buffers"] = f"{seen.ask.method} is sent once"
            return
        packed = seen.ask.having("Accept-Encoding", "gzip")
        due = seen.first + SETTLE
        is_short = seen.last < due
        if is_short:
            why = "the stream is too short to tell"
            self.notes["compression-buffers"] = why
        # The second time is for a machine that was busy during the first.
        for attempt in (1, 2):
            run = await self.again(packed, due + PATIENCE, has_unpacked)
            if run is None or not run.seen.encoding:
                return
            if run.seen.packed:
                said = f"the head says {cut(run.seen.encoding)}: {run.seen.packed}"
                self.found.append(Found("bad-encoding", said))
                return
            if is_short or (run.seen.unpacked or due) < due:
                return
            if attempt == 2:
                found = Found("compression-buffers", held_back(run))
                self.found.append(found)

    async def resume(self) -> None:
        """Reconnect as a browser does, from the middle and from the end."""
        seen = self.seen
        events = [event for event in self.watched.events if event.has_id and event.id]
        if seen.media != EVENTS or not events:
            return
        if not seen.ask.can_be_repeated:
            self.notes["resume-ignored"] = f"{seen.ask.method} is sent once"
            return
        known = {event.id for event in events}
        replays = True
        if len(events) > 1:
            middle = (len(events) - 1) // 2
            run = await self.reconnect(events[middle].id)
            found = resumed(run, events[middle + 1], known)
            replays = found == REPLAY
            if replays:
                why = "a reconnect in the middle brings all again, with the same ids"
                self.notes["resume-ignored"] = why
            if isinstance(found, Found):
                self.found.append(found)
                return
        run = await self.reconnect(events[-1].id)
        self.ended_with_204 = run is not None and run.seen.status == 204
        if run is None or self.ended_with_204:
            return
        first = first_with_id(run)
        if not run.ok:
            self.found.append(refused(run))
        elif first and first.id in known and replays:
            said = (
                f"after id {cut(events[-1].id, 40)} it sent {cut(first.id, 40)} again"
            )
            self.found.append(Found("resume-ignored", said))
            self.notes.pop("resume-ignored", None)

    def end(self) -> None:
        """Look whether the last event says that it is the last."""
        seen = self.seen
        events = self.watched.events
        if seen.media != EVENTS or seen.ending != "complete" or not events:
            return
        if not is_apart(events) and not self.ended_with_204:
            which = "the last event is like others" if events[1:] else "the only event"
            said = f"{which}: {cut(events[-1].name, 40)} {cut(events[-1].text, 40)}"
            self.found.append(Found("no-end", said))

    async def reconnect(self, last_id: str) -> Run | None:
        """Ask as a browser that has seen this id, until an event with an id comes."""
        ask = self.seen.ask.having("Last-Event-ID", last_id)
        patience = PATIENCE if self.seconds is None else min(PATIENCE, self.seconds)
        return await self.again(
            ask, patience, lambda run: first_with_id(run) is not None
        )

    async def again(
        self,
        ask: Ask,
        seconds: float | None,
        until: Callable[[Run], bool] = lambda _: False,
    ) -> Run | None:
        """Ask once more; None if nobody answers any more."""
        try:
            return await Run(Seen(ask)).ask(seconds, until)
        except NoAnswerError as error:
            self.notes["another request"] = str(error)
            return None

    # For the command -----------------------------------------------------------------

    async def run(self, shown: View, *, diagnose: bool) -> None:
        """Watch the stream in a view, then look for what is wrong."""
        shown.told = self.watched.told

        def arrived(arrival: Arrival, pieces: list[bytes]) -> bool:
            shown.arrived(arrival, pieces)
            return diagnose and self.seen.size > ENOUGH

        await record(
            self.seen, seconds=self.seconds, began=shown.began, arrived=arrived
        )
        self.watched.told = shown.told
        shown.ended()
        if diagnose:
            await self.diagnose()

    def report(self, shown: View, *, diagnose: bool) -> int:
        """Print what was found, and give the exit status."""
        shown.ended()
        word = verdict(self.seen, shown.told)
        status = STATUS[word]
        if diagnose:
            status = FOUND if self.found else 0
            for found in self.found:
                advice = ADVICE[found.code]
                parts = {"seen": found.seen, "why": advice.why, "do": advice.do}
                shown.finding(found.code, parts | {"page": SITE + advice.page})
            shown.print()
            if not self.found:
                shown.print("--check found nothing wrong", "green")
            shown.noted(self.notes)
        shown.judged(status, [found.code for found in self.found])
        return status


REPLAY = "replay"


def resumed(run: Run | None, wanted: Message, known: set[str]) -> Found | str:
    """Compare what a reconnect brought with the event that had come there before."""
    if run is None:
        return ""
    if not run.ok:
        return refused(run)
    first = first_with_id(run)
    if first is None:
        said = f"{cut(wanted.id, 40)} did not come within {run.seen.seconds:.1f} s"
        return Found("resume-lost", said)
    if first.id == wanted.id:
        return ""
    if first.text == wanted.text:
        said = f"what had the id {cut(wanted.id, 40)} now has {cut(first.id, 40)}"
        return Found("ids-change", said)
    if first.id in known:
        return REPLAY
    said = f"{cut(first.id, 40)} came instead of {cut(wanted.id, 40)}"
    return Found("resume-lost", said)


def refused(run: Run) -> Found:
    """Say that a reconnect was refused."""
    asked = dict(run.seen.ask.headers)["Last-Event-ID"]
    said = f"with Last-Event-ID: {cut(asked, 40)} the status is {run.seen.status}"
    return Found("resume-refused", said)


def first_with_id(run: Run) -> Message | None:
    """Give the first event that has an id."""
    return next((event for event in run.events if event.has_id), None)


def has_unpacked(run: Run) -> bool:
    """Tell whether enough is known of a compressed stream."""
    return run.seen.unpacked is not None or bool(run.seen.packed)
