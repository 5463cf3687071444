"""Let every client read the streams of sse_cases.json, and write who reads what.

`python -m tests.kit.parsers` writes docs/reading/parsers.txt, which a page shows. Each
stream is read whole, and once more with each byte in a chunk of its own. What a client
gives is held against the standard (WHATWG HTML, 9.2.6): the events, whether they came
before the end of the stream, the wait that `retry:` sets, and the id that a
reconnection sends, the last two where the client tells them.
"""

import base64
import json
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from typing import Any, NamedTuple

import anthropic
import httpx
import httpx2
import httpx_sse
from openai import _streaming as openai_streaming
from playwright.sync_api import Browser

from cookbook.catalog import ROOT
from tests.kit import docs, node, sse
from tests.kit.servers import in_a_thread, need

TABLE = ROOT / "docs/reading/parsers.txt"
CASES: list[dict[str, Any]] = json.loads(
    (ROOT / "tests/kit/sse_cases.json").read_text("utf-8")
)
URL = "http://shop.example/events"  # Nobody is asked.
STREAM = {"Content-Type": "text/event-stream"}
FIRST_WAIT = 3000  # milliseconds; both EventSources for Node begin with it
LIMIT = 60  # seconds that all of Node's parsers together may take


class Got(NamedTuple):
    """What a client made of one stream.

    `early` counts the events that came before the end, None if that is not known.
    `retry` is in milliseconds. `told` names what else the client tells.
    """

    events: list[list[str]]
    early: int | None = None
    retry: int | None = None
    last_id: str | None = None
    told: frozenset[str] = frozenset()
    error: str = ""


Read = list[list[Got]]  # for each case: whole, and byte by byte
Count = Callable[[], None]


def wire(case: dict[str, Any]) -> bytes:
    """Give the bytes of a case."""
    if case["encoding"] == "base64":
        return base64.b64decode(case["stream"])
    return str(case["stream"]).encode(case["encoding"])


def ways(stream: bytes) -> list[list[bytes]]:
    """Cut a stream: not at all, and at every byte."""
    return [[stream] if stream else [], [bytes([byte]) for byte in stream]]


# The clients in Python --------------------------------------------------------------


class Chunks(httpx.SyncByteStream, httpx2.SyncByteStream):
    """A response's body, in the chunks that are given; it calls `at_end` after them."""

    def __init__(self, chunks: list[bytes], at_end: Count) -> None:
        self.chunks = chunks
        self.at_end = at_end

    def __iter__(self) -> Iterator[bytes]:
        yield from self.chunks
        self.at_end()


def by_httpx2(chunks: list[bytes], at_end: Count) -> Iterator[Any]:
    """Read with httpx2's `.sse()`."""

    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers=STREAM, stream=Chunks(chunks, at_end))

    with (
        httpx2.Client(transport=httpx2.MockTransport(answer)) as client,
        client.sse(URL) as events,
    ):
        yield from events


def by_httpx_sse(chunks: list[bytes], at_end: Count) -> Iterator[Any]:
    """Read with httpx and httpx-sse."""

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers=STREAM, stream=Chunks(chunks, at_end))

    with (
        httpx.Client(transport=httpx.MockTransport(answer)) as client,
        httpx_sse.connect_sse(client, "GET", URL) as events,
    ):
        yield from events.iter_sse()


def by_openai(chunks: list[bytes], at_end: Count) -> Iterator[Any]:
    """Read with what OpenAI's SDK reads its streams with."""
    yield from openai_streaming.SSEDecoder().iter_bytes(iter(Chunks(chunks, at_end)))


def by_anthropic(chunks: list[bytes], at_end: Count) -> Iterator[Any]:
    """Read with what Anthropic's SDK reads its streams with."""
    response = httpx2.Response(200, headers=STREAM, stream=Chunks(chunks, at_end))
    yield from anthropic.Stream.raw_events(response)


PYTHON = {
    "httpx2": by_httpx2,
    "httpx-sse": by_httpx_sse,
    "openai": by_openai,
    "anthropic": by_anthropic,
}


def in_python(
    read: Callable[[list[bytes], Count], Iterator[Any]], chunks: list[bytes]
) -> Got:
    """Let a client in Python read one stream."""
    events: list[list[str]] = []
    waits: list[int] = []
    early = [0]
    error = ""
    try:
        for event in read(chunks, lambda: early.append(len(events))):
            events.append([event.event or "message", event.data, event.id or ""])
            if event.retry is not None:
                waits.append(event.retry)
    except UnicodeDecodeError as wrong:
        error = type(wrong).__name__
    retry = waits[-1] if waits else None
    return Got(events, early[-1], retry, told=frozenset({"retry"}), error=error)


def by_kit(chunks: list[bytes]) -> Got:
    """Read with the strict reader of the tests."""
    parsed = sse.parse(chunks)
    events = [list(event) for event in parsed.events]
    told = frozenset({"retry", "last_id"})
    return Got(events, None, parsed.retry, parsed.last_event_id, told)


# The clients in Node ----------------------------------------------------------------


def names() -> list[str]:
    """List every name that an event of the cases may have."""
    found = {"message"}
    for case in CASES:
        text = wire(case).decode("utf-8", "replace")
        found |= set(re.findall(r"^event: ?(.*?)[\r\n]", text, re.MULTILINE))
    return sorted(found)


def in_node() -> dict[str, tuple[str, Read]]:
    """Let the parsers from npm, and the site's, read all: version and results."""
    program = shutil.which("node") or need("node", "install Node.js 20 or newer")
    cases = [
        {
            "bytes": base64.b64encode(wire(case)).decode(),
            "ways": [[len(chunk) for chunk in way] for way in ways(wire(case))],
        }
        for case in CASES
    ]
    done = subprocess.run(
        [
            program,
            "--no-warnings",
            str(ROOT / "tests/node/parsers.mjs"),
            str(node.modules()),
            str(ROOT / "docs/assets/sse.js"),
        ],
        input=json.dumps({"cases": cases, "names": names()}),
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode == 0, done.stderr
    return {
        name: (found["version"], [[_from_node(got) for got in row] for row in rows])
        for name, found in json.loads(done.stdout).items()
        for rows in [found["cases"]]
    }


def _from_node(got: dict[str, Any]) -> Got:
    told = {"retry"} | ({"last_id"} if "lastId" in got else set())
    last_id = got.get("lastId")
    return Got(got["events"], got["early"], got["retry"], last_id, frozenset(told))


# Chromium ---------------------------------------------------------------------------

LISTEN = """({ paths, names }) => Promise.all(
  paths.map((path) => new Promise((resolve) => {
    const events = [];
    const source = new EventSource(path);
    for (const name of names) {
      source.addEventListener(name, (event) => {
        if ("data" in event) events.push([event.type, event.data, event.lastEventId]);
      });
    }
    source.addEventListener("error", (event) => {
      if ("data" in event) return; // It came from the stream.
      source.close();
      resolve(events);
    });
  })),
)"""


class Streams(BaseHTTPRequestHandler):
    """Sends case `n` at /n/0 whole and at /n/1 byte by byte; else an empty page."""

    def do_GET(self) -> None:
        """Answer, and close the connection."""
        self.send_response(200)
        if self.path.count("/") != 2:
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            return
        _, number, way = self.path.split("/")
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for chunk in ways(wire(CASES[int(number)]))[int(way)]:
            self.wfile.write(chunk)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


class Many(ThreadingHTTPServer):
    """A server at which all streams can be asked for at once."""

    request_queue_size = 256


@contextmanager
def streams() -> Iterator[str]:
    """Serve the streams on a free port."""
    with in_a_thread(Many(("127.0.0.1", 0), Streams)) as address:
        yield address


def in_chromium(browser: Browser) -> tuple[str, Read]:
    """Let Chromium's EventSource read all: its version, and the events."""
    paths = [f"/{number}/{way}" for number in range(len(CASES)) for way in (0, 1)]
    page = browser.new_page()
    page.set_default_timeout(LIMIT * 1000)
    with streams() as url:
        page.goto(f"{url}/")
        found = page.evaluate(LISTEN, {"paths": paths, "names": names()})
        page.close()
    got = [Got(events) for events in found]
    return browser.version.split(".")[0], [
        got[place : place + 2] for place in range(0, len(got), 2)
    ]


# What is wrong ----------------------------------------------------------------------

# What a client does instead of what the standard says, in the order of the page.
FAULTS = {
    "no data": "It gives you an event for a block that has no `data` line. If all of "
    "yours have data, skip those without.",
    "mark": "It keeps the byte order mark at the start of the stream, and so loses the "
    "first line, or the whole first event.",
    "not UTF-8": "It raises `UnicodeDecodeError` at bytes that are not UTF-8. The "
    "standard puts a replacement character (�) in their place.",
    "cut": "It gives you an event that the end of the stream has cut off.",
    "CR": "After a CR it waits for the next character, and at the end of the stream "
    "it drops the event that the CR has completed.",
    "late": "After a CR it waits for the next character. You get the event later: with "
    "the next event, or at the end.",
    "id": "It forgets the id of a block that has no data. So the next event has no id, "
    "and a reconnection asks for too much.",
    "header": "It never connects again after an id with characters outside of Latin-1. "
    "It tries for ever, but refuses to send such a header.",
    "wait": "It takes a `retry` that is more than ASCII digits.",
    "no wait": "It misses a `retry` when the stream ends before the blank line.",
    "other": "It gives you other events.",
}


def fault(case: dict[str, Any], got: Got) -> str:
    """Name what is wrong with what a client made of a case; "" if nothing is."""
    expected = [[e["event"], e["data"], e["id"]] for e in case["expected"]]
    if got.error:
        return "not UTF-8"
    if got.events != expected:
        return _wrong_events(wire(case), got.events, expected)
    if got.early is not None and got.early < len(expected):
        return "late"
    if "last_id" in got.told and got.last_id != case["last_event_id"]:
        return "header" if got.last_id is None else "id"
    unset = (None, FIRST_WAIT)
    same = got.retry == case["retry"] or (case["retry"] is None and got.retry in unset)
    if "retry" in got.told and not same:
        return "wait" if case["retry"] is None else "no wait"
    return ""


def _wrong_events(
    stream: bytes, got: list[list[str]], expected: list[list[str]]
) -> str:
    if stream.startswith("\ufeff".encode()):
        return "mark"
    if [event[:2] for event in got] == [event[:2] for event in expected]:
        return "id"
    if [event for event in got if event[1] or event in expected] == expected:
        return "no data"
    if got[:-1] == expected:
        return "cut"
    if got == expected[:-1] and stream.endswith(b"\r"):
        return "CR"
    return "other"


# The page's tables ------------------------------------------------------------------

SHOWN = {
    "Chromium": "Chromium, `EventSource`",
    "httpx2": "httpx2, `.sse()`",
    "httpx-sse": "httpx-sse",
    "openai": "openai (Python)",
    "anthropic": "anthropic (Python)",
    "eventsource": "eventsource (npm)",
    "eventsource-parser": "eventsource-parser (npm)",
    "undici": "undici, `EventSource` (npm)",
    "sse.js": "`sse.js` of these pages",
    "kit": "`tests/kit/sse.py` of these tests",
}


def everything(browser: Browser) -> dict[str, tuple[str, Read]]:
    """Let every client read every case: for each its version and what it made."""
    found = {"Chromium": in_chromium(browser)}
    for name, read in PYTHON.items():
        rows = [[in_python(read, way) for way in ways(wire(case))] for case in CASES]
        found[name] = version(name), rows
    found |= in_node()
    rows = [[by_kit(way) for way in ways(wire(case))] for case in CASES]
    found["kit"] = "", rows
    return found


def faults(rows: Read) -> list[list[str]]:
    """Name the faults of one client, for each case and way."""
    return [
        [fault(case, got) for got in row] for case, row in zip(CASES, rows, strict=True)
    ]


def written(found: dict[str, tuple[str, Read]]) -> str:
    """Write the tables: each client's count, and each fault with its clients."""
    wrong = {name: faults(rows) for name, (_, rows) in found.items()}
    seen = [
        name
        for name in FAULTS
        if any(name in row for rows in wrong.values() for row in rows)
    ]
    places = {name: f"[{place}](#fault-{place})" for place, name in enumerate(seen, 1)}
    clients = []
    for name, shown in SHOWN.items():
        right = [sum(not row[way] for row in wrong[name]) for way in (0, 1)]
        its = [places[f] for f in seen if any(f in row for row in wrong[name])]
        counts = [str(count) for count in right]
        clients.append([shown, found[name][0], *counts, ", ".join(its)])
    head = ["client", "version", "whole", "byte by byte", "what it does otherwise"]
    items = []
    for place, key in enumerate(seen, 1):
        streams_of = {name: len(_cases(wrong[name], key)) for name in SHOWN}
        who = ", ".join(f"{name} ({n})" for name, n in streams_of.items() if n)
        items.append(
            f'{place}. <span id="fault-{place}"></span>{FAULTS[key]}<br>\n'
            f"    For example {_example(wrong, key)}<br>\n    {who}\n"
        )
    return (
        docs.table(head, clients)
        + "\nThe numbers in the last column stand for this. Behind each client stands "
        "how many of the\nstreams it reads so.\n\n" + "".join(items)
    )


def _cases(rows: list[list[str]], key: str) -> list[int]:
    return [number for number, row in enumerate(rows) if key in row]


def _example(wrong: dict[str, list[list[str]]], key: str) -> str:
    numbers = {n for rows in wrong.values() for n in _cases(rows, key)}
    shortest = min(sorted(numbers), key=lambda n: len(wire(CASES[n])))
    shown = wire(CASES[shortest]).decode("utf-8", "backslashreplace")
    for character, name in {"\ufeff": "\\ufeff", "\r": "\\r", "\n": "\\n"}.items():
        shown = shown.replace(character, name)
    return f"`{shown}`"


def main() -> None:
    """Write the file that the page includes."""
    from tests.kit.browser import chromium

    with chromium() as browser:
        TABLE.write_text(written(everything(browser)), "utf-8")


if __name__ == "__main__":
    main()
