"""What `cookbook watch --check` finds: nothing in a recipe, and pitfalls by name."""

import asyncio
import gc
import importlib
import logging
import re
import tempfile
import warnings
import zlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import httpx2
import pytest
from fastapi import FastAPI, Request
from markdown.extensions.toc import slugify
from starlette.applications import Starlette
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount

from cookbook import catalog, upstream
from cookbook.ask import Ask, NoAnswerError, Seen
from cookbook.background import serving
from cookbook.catalog import ROOT
from cookbook.check import (
    ADVICE,
    FAULTS,
    LIVE,
    LOOKS,
    REPLAY,
    Check,
    Found,
    Run,
    is_apart,
    resumed,
)
from cookbook.llm import provider, scripted
from cookbook.messages import LONGEST, Message, reader_of
from cookbook.site import create_app
from cookbook.view import Told, at_once
from cookbook.watch import Arrival
from tests.kit.servers import WAIT, free_port

EVENTS = {"content-type": "text/event-stream", "x-accel-buffering": "no"}
SECONDS, SILENCE = 4.0, 2.4  # long enough for the pauses of recipes and pitfalls


@dataclass(frozen=True)
class Sight:
    """A pitfall, the finding that names it, and a request that shows it.

    `right` is what does the same without the mistake, if the file has it.
    """

    pitfall: str
    code: str
    path: str
    right: str = ""
    headers: tuple[tuple[str, str], ...] = ()


TEA = "prompt=Why+is+tea+hot&model=ok"
RANGE = (("Range", "bytes=1000-"),)
# The pitfalls that can be seen from outside. The others are about memory, other
# clients, or what the data means.
SIGHTS = [
    Sight("plain_text/joined_before_sending", "not-streamed", "/slip/1"),
    Sight("plain_text/status_after_first_byte", "closed-early", "/slip/7"),
    Sight("stream_middleware/join_body", "not-streamed", "/orders"),
    Sight("stream_middleware/gzip_without_flush", "compression-buffers", "/orders"),
    Sight("http_proxy/decoded_body", "bad-encoding", "/orders"),
    Sight("http_proxy/closed_before_the_stream", "closed-early", "/orders"),
    Sight("file_download/range_ignored", "range-ignored", "/files/licence", "", RANGE),
    Sight(
        "chunk_framing/decode_per_chunk",
        "garbled",
        "/replaced?size=29",
        "/whole?size=29",
    ),
    Sight(
        "mid_stream_errors/raise_in_native_generator",
        "closed-early",
        "/events",
        "/told-events",
    ),
    Sight(
        "mid_stream_errors/response_returned",
        "closed-early",
        "/events",
        "/yielded-events",
    ),
    Sight(
        "mid_stream_errors/http_exception_in_generator",
        "closed-early",
        "/events/zoe",
        "/checked/zoe",
    ),
    Sight("sse_basic/dict_as_data", "bad-json", "/events", "/json-events"),
    Sight(
        "sse_basic/end_without_data",
        "event-without-data",
        "/events",
        "/complete-events",
    ),
    Sight(
        "sse_basic/event_named_error", "event-named-error", "/events", "/named-events"
    ),
    Sight("sse_basic/feed_without_end", "no-end", "/events"),
    Sight("sse_basic/newline_in_data", "stray-line", "/note?text=one%0Atwo"),
    Sight(
        "sse_progress/json_by_hand",
        "bad-json",
        "/events?file=12%22-pots.csv",
        "/typed-events?file=12%22-pots.csv",
    ),
    Sight("sse_keepalive/ping_waits_for_data", "no-keep-alive", "/events?quiet=4"),
    Sight("sse_resumable/id_as_number", "resume-refused", "/events"),
    Sight("sse_resumable/id_per_connection", "ids-change", "/events", "/right-events"),
    Sight("llm_text/event_stream_without_events", "no-events", f"/answer?{TEA}"),
    Sight("llm_anthropic/text_stream_called", "closed-early", f"/answer?{TEA}"),
    Sight("llm_openai/choices_without_check", "closed-early", f"/answer?{TEA}"),
    Sight("stream_limits/token_in_address", "secret-in-address", "/events?token=ada"),
]

SILENT = {sight.pitfall for sight in SIGHTS if sight.code == "no-keep-alive"}


@asynccontextmanager
async def lifespans(main: Starlette) -> AsyncIterator[dict[str, Any]]:
    """Start what each mounted application needs."""
    states = dict[str, Any]()
    async with AsyncExitStack() as stack:
        for route in main.routes:
            assert isinstance(route, Mount)
            lifespan = route.app.router.lifespan_context(route.app)  # type: ignore[attr-defined]
            states |= dict(await stack.enter_async_context(lifespan) or {})
        yield states


def everything() -> Starlette:
    """Serve every recipe below /live/, and the pitfalls of `SIGHTS` by their names."""
    routes = [Mount("/right", create_app(ROOT / "docs"))]
    for name in {sight.pitfall for sight in SIGHTS}:
        module = importlib.import_module(f"recipes.pitfalls.{name.replace('/', '.')}")
        routes.append(Mount(f"/{name}", module.app))
    return Starlette(routes=routes, lifespan=lifespans)


def first_of(recipe: catalog.Recipe, url: str) -> Ask:
    """Give what the first `Try it:` line of a recipe asks for."""
    asked = recipe.requests[0]
    headers = tuple(asked.headers.items())
    address = f"{url}/right/live/{recipe.slug}{asked.path}"
    return Ask(address, asked.method, headers, asked.body)


@pytest.fixture(scope="module")
def found() -> dict[str, list[Found]]:
    """Check every recipe and every pitfall in one process, several at a time."""
    results = dict[str, list[Found]]()

    async def check(name: str, ask: Ask, turn: asyncio.Semaphore) -> None:
        async with turn:
            # A busy machine can make any stream silent for some seconds.
            silence = SILENCE if name in SILENT else 2 * WAIT
            results[name] = await Check(ask, seconds=SECONDS, silence=silence).look()

    async def check_all(url: str) -> None:
        turn = asyncio.Semaphore(12)
        asks = {recipe.slug: first_of(recipe, url) for recipe in catalog.recipes()}
        for sight in SIGHTS:
            address = f"{url}/{sight.pitfall}"
            asks[sight.pitfall] = Ask(address + sight.path, headers=sight.headers)
            if sight.right:
                asks[f"{sight.pitfall} right"] = Ask(address + sight.right)
        await asyncio.gather(*(check(name, ask, turn) for name, ask in asks.items()))

    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        stack.enter_context(patch.object(tempfile, "tempdir", folder))
        stack.enter_context(upstream.started())
        script = stack.enter_context(scripted.running())
        known = provider.Provider("scripted", "", url=script.url, env=script.env)
        stack.enter_context(provider.visible(known))
        logging.disable()  # What the pitfalls do wrong is logged.
        stack.callback(logging.disable, logging.NOTSET)
        # One pitfall never awaits its coroutine, another leaves a file open.
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        with serving(everything()) as url:
            asyncio.run(check_all(url))
        gc.collect()
    return results


@pytest.mark.parametrize("slug", [path.stem for path in catalog.sources()])
def test_a_recipe_is_well(slug: str, found: dict[str, list[Found]]) -> None:
    assert found[slug] == []


@pytest.mark.parametrize("sight", SIGHTS, ids=[sight.pitfall for sight in SIGHTS])
def test_a_pitfall_is_named(sight: Sight, found: dict[str, list[Found]]) -> None:
    assert sight.code in {one.code for one in found[sight.pitfall]}
    right = found.get(f"{sight.pitfall} right", [])
    assert sight.code not in {one.code for one in right}


def test_what_a_finding_says_was_seen(found: dict[str, list[Found]]) -> None:
    said = {(name, one.code): one.seen for name, all_ in found.items() for one in all_}
    assert said["plain_text/joined_before_sending", "not-streamed"] == (
        "the head says Content-Length: 78"
    )
    assert said["sse_resumable/id_per_connection", "ids-change"] == (
        "what had the id 4 now has 1"
    )
    assert said["sse_resumable/id_as_number", "resume-refused"] == (
        "with Last-Event-ID: 7f3a-1 the status is 422"
    )
    assert said["sse_basic/feed_without_end", "resume-ignored"] == (
        "after id 2 it sent 1 again"
    )
    assert "cr\ufffd\ufffdme" in said["chunk_framing/decode_per_chunk", "garbled"]


# What one answer shows, without a server ---------------------------------------------


def heard(
    *bodies: bytes,
    headers: dict[str, str] | None = None,
    status: int = 200,
    ending: str = "complete",
    ask: Ask | None = None,
    pause: float = 0.01,
) -> Run:
    """Give a run in which these chunks have come, `pause` seconds apart."""
    seen = Seen(ask or Ask("http://shop/events"), status=status, ending=ending)
    seen.headers = httpx2.Headers(EVENTS if headers is None else headers)
    run = Run(seen, Told(reader_of(seen.media)))
    now = 0.0
    for body in bodies:
        now += pause
        seen.note(Arrival(now, pause, body))
        seen.start += body
        list(run.told.hear(body, now))
    if ending != "left":
        for message in run.told.reader.end():
            run.told.keep(message, now)
    seen.seconds = now
    return run


def codes(run: Run) -> list[str]:
    return [one.code for look in LOOKS for one in look(run)]


LINES = {"content-type": "application/jsonl"}
TEXT = {"content-type": "text/plain; charset=utf-8"}
EVENT = b"data: {}\n\n"
LENGTH = {"content-length": "9"}
ETAG = {"etag": '"1"'}
FINE = {
    "events": heard(EVENT),
    "a comment": heard(b": hello\n\n"),
    "an event of several lines": heard(b"data: a\ndata: b\n\n"),
    "CRLF": heard(b"event: a\r", b"\ndata: {}\r\n", b"\r\n"),
    "half an event, and the stream was left": heard(EVENT, b"data: {", ending="left"),
    "text in braces": heard(b"data: {name}\n\n", b"data: [DONE]\n\n"),
    "JSON": heard(b'data: {"a": [1]}\n\n'),
    "lines": heard(b'{"id":1}\n{"id":2}\n', headers=LINES),
    "lines with pings": heard(b'{"id":1}\n\n', b"\n", headers=LINES),
    "text": heard(b"tea", b"pot", headers=TEXT),
    "text that ends in half a character": heard("é".encode()[:1], headers=TEXT),
    "a short body without X-Accel-Buffering": heard(
        b"a", b"b", headers=TEXT, pause=4.9
    ),
    "bytes": heard(b"\0\xff\xfe", headers={"content-type": "image/png"}),
    "JSON with a length": heard(
        b"{}", headers={"content-type": "application/json"} | LENGTH
    ),
    "a file": heard(b"a", headers=TEXT | LENGTH | ETAG),
    "a POST with a length": heard(
        b"a", headers=TEXT | LENGTH, ask=Ask("http://shop", "POST")
    ),
    "HTML with a length": heard(b"a", headers={"content-type": "text/html"} | LENGTH),
    "JSON over several lines": heard(
        b'{\n"id": 1\n}', headers={"content-type": "application/json"}
    ),
    "a part of a file": heard(
        b"a",
        status=206,
        headers=TEXT | LENGTH | {"content-range": "bytes 0-0/9"},
        ask=Ask("http://shop", headers=RANGE),
    ),
    "no content": heard(headers={}, status=204),
}
WRONG = {
    "status": heard(status=503, headers=TEXT),
    "closed-early": heard(EVENT, ending="broken off"),
    "silent": heard(ending="left"),
    "not-streamed": heard(EVENT, headers=EVENTS | LENGTH),
    "content-type": heard(EVENT, headers=TEXT),
    "no-events": heard(b"Tea is hot."),
    "no-anti-buffering": heard(EVENT, headers={"content-type": "text/event-stream"}),
    "event-without-data": heard(EVENT, b"event: end\n\n"),
    "event-named-error": heard(b"event: error\ndata: {}\n\n"),
    "stray-line": heard(b"data: one\ntwo\n\n"),
    "cut-event": heard(EVENT, b"data: {}\n"),
    "bad-json": heard(b"data: {'a': None}\n\n"),
    "garbled": heard(b'{"item":"cr\xc3"}\n', headers=TEXT),
    "too-long": heard(EVENT, b"data: " + b"x" * LONGEST + b"\n\n"),
    "range-ignored": heard(b"a", headers=TEXT, ask=Ask("http://shop", headers=RANGE)),
    "secret-in-address": heard(EVENT, ask=Ask("http://shop/?API_key=1")),
}
MORE = {
    "lines of no JSON": ("bad-json", heard(b"{'id':1}\n", headers=LINES)),
    "a cut line": ("cut-event", heard(b'{"id":1}\n{"i', headers=LINES)),
    "no type": ("content-type", heard(b"tea", headers={})),
    "lines as JSON": (
        "content-type",
        heard(b'{"id":1}\n{"id":2}\n', headers={"content-type": "application/json"}),
    ),
    "text for long": ("no-anti-buffering", heard(b"a", b"b", headers=TEXT, pause=LIVE)),
    "the header says yes": (
        "no-anti-buffering",
        heard(EVENT, headers=EVENTS | {"x-accel-buffering": "yes"}),
    ),
    "a lost character": (
        "garbled",
        heard("cr\ufffdme, and more".encode(), headers=TEXT),
    ),
    "half a character in an event": ("garbled", heard(b"data: \xc3 and more\n\n")),
    "lines with a length": ("not-streamed", heard(b"{}\n", headers=LINES | LENGTH)),
    "events in JSON": (
        "content-type",
        heard(b"event: a\ndata: {}\n\n", headers={"content-type": "application/json"}),
    ),
}


@pytest.mark.parametrize("name", FINE)
def test_what_is_fine_is_no_finding(name: str) -> None:
    assert codes(FINE[name]) == []


@pytest.mark.parametrize("code", WRONG)
def test_what_is_wrong_is_the_only_finding(code: str) -> None:
    assert codes(WRONG[code]) == [code]


@pytest.mark.parametrize("name", MORE)
def test_other_ways_to_be_wrong(name: str) -> None:
    code, run = MORE[name]
    assert codes(run) == [code]


def test_every_finding_is_tried_and_has_its_page() -> None:
    tried = {sight.code for sight in SIGHTS} | set(WRONG)
    # These need a second request, or a clock; they have tests of their own below.
    assert ADVICE.keys() - tried == {"buffered", "resume-ignored", "resume-lost"}
    assert set(FAULTS.values()) < ADVICE.keys()
    for advice in ADVICE.values():
        path, _, anchor = advice.page.strip("/").partition("#")
        text = (ROOT / "docs" / f"{path.strip('/')}.md").read_text("utf-8")
        headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        assert not anchor or anchor in {slugify(line, "-") for line in headings}


@pytest.mark.parametrize(
    ("last", "apart"),
    [
        (Message("event", "{}", "end"), True),
        (Message("event", "[DONE]", "order"), True),
        (Message("event", '{"type": "done"}', "order"), True),
        (Message("event", '{"choices": [{"finish_reason": "stop"}]}', "order"), True),
        (Message("event", '{"done": true}', "order"), True),
        (Message("event", '{"finish_reason": null}', "order"), False),
        (Message("event", '{"done": false}', "order"), False),
        (Message("event", '{"id": 2}', "order"), False),
        (Message("event", "[" * 100_000, "order"), False),
    ],
)
def test_the_last_event_says_that_it_is_the_last(last: Message, apart: bool) -> None:
    assert is_apart([Message("event", '{"id": 1}', "order"), last]) is apart


def test_a_single_event_is_the_end_if_it_has_a_name() -> None:
    assert is_apart([Message("event", "{}", "end")])
    assert not is_apart([Message("event", "{}", "message")])
    assert not is_apart([])


GZIP = EVENTS | {"content-encoding": "gzip"}


@pytest.mark.parametrize(
    ("unpacked", "bodies", "pause", "is_found"),
    [
        (None, 2, 1.0, True),  # Nothing could be unpacked in two seconds.
        (None, 1, 0.9, False),
        (0.1, 2, 1.0, False),
        (3.0, 3, 1.0, True),
        (3.0, 6, 1.0, False),  # It began late, and went on.
    ],
)
def test_compression_is_judged_by_the_first_byte_that_could_be_unpacked(
    unpacked: float | None, bodies: int, pause: float, is_found: bool
) -> None:
    run = heard(*[EVENT] * bodies, headers=GZIP, pause=pause)
    run.seen.unpacked = unpacked
    assert codes(run) == ["compression-buffers"] * is_found


def test_the_time_until_the_head_is_not_the_compressions() -> None:
    run = heard(EVENT, EVENT, headers=GZIP, pause=1.0)
    run.seen.head = 1.5
    assert codes(run) == []


def test_a_finding_shows_a_little_of_what_was_seen() -> None:
    def told(run: Run) -> str:
        (found,) = [one for look in LOOKS for one in look(run)]
        return found.seen

    assert told(WRONG["event-without-data"]) == "1 times: end"
    assert told(WRONG["stray-line"]) == "1 times: two"
    packed = heard(EVENT, EVENT, headers=GZIP, pause=1.0)
    assert told(packed) == "in 2.0 s nothing could be unpacked of gzip"
    packed.seen.unpacked = 2.0
    assert told(packed) == "nothing could be unpacked for 2.0 s of gzip"
    text = "tea 0123456789\ufffd0123456789 tea".encode()
    assert told(heard(text, headers=TEXT)) == "near '0123456789\ufffd0123456789'"
    long = "x" * 41
    assert resumed(heard(EVENT), Message("event", "", "", long), set()) == Found(
        "resume-lost", f"{long[:40]} … did not come within 0.0 s"
    )


def event(number: int, data: str = "{}") -> Message:
    return Message("event", data, "message", str(number), has_id=True)


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (heard(b"id: 3\ndata: c\n\n"), ""),
        (heard(b"data: x\n\nid: 3\ndata: other\n\n"), ""),
        (heard(b"id: 1\ndata: a\n\n"), REPLAY),
        (heard(b"id: 1\ndata: c\n\n"), "ids-change"),
        (heard(b"id: 9\ndata: z\n\n"), "resume-lost"),
        (heard(EVENT), "resume-lost"),
        (heard(status=422), "resume-refused"),
        (None, ""),
    ],
)
def test_a_reconnect_is_compared(answer: Run | None, result: str) -> None:
    if answer:
        answer.seen.ask = answer.seen.ask.having("Last-Event-ID", "2")
    said = resumed(answer, event(3, "c"), {"1", "2", "3"})
    assert (said.code if isinstance(said, Found) else said) == result


# What another request shows ----------------------------------------------------------


def checked(app: FastAPI, ask: str = "/", method: str = "GET") -> Check:
    """Check what an application serves, and give what is known then."""
    with serving(app) as url:
        doctor = Check(Ask(f"{url}{ask}", method), seconds=15)
        asyncio.run(doctor.look())
    return doctor


def app_of(*responses: Response) -> tuple[FastAPI, list[dict[str, str]]]:
    """Give an application with an answer for each request; and their headers."""
    app = FastAPI()
    asked = list[dict[str, str]]()

    def answer(request: Request) -> Response:
        asked.append(dict(request.headers))
        return responses[min(len(asked), len(responses)) - 1]

    app.add_api_route("/", answer, methods=["GET", "POST"])
    return app, asked


def events_of(*bodies: bytes) -> StreamingResponse:
    """Stream events, a chunk for each."""
    return StreamingResponse(iter(bodies), headers=EVENTS)


def lines_of(*bodies: bytes) -> StreamingResponse:
    return StreamingResponse(iter(bodies), media_type="application/jsonl")


@pytest.fixture
def any_wait_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cookbook.view.SETTLE", 0.0)
    monkeypatch.setattr("cookbook.view.MOMENT", 1.0)


JOINED = b"1\n2\n3\n"


@pytest.mark.usefixtures("any_wait_is_long")
def test_what_is_held_back_twice_is_buffered() -> None:
    app, asked = app_of(lines_of(JOINED), lines_of(JOINED))
    doctor = checked(app)
    assert [one.code for one in doctor.found] == ["buffered"]
    assert doctor.found[0].seen.endswith("in one moment, twice")
    assert len(asked) == 3  # the third time as a client that understands gzip


@pytest.mark.usefixtures("any_wait_is_long")
def test_a_server_that_only_starts_slowly_is_not_buffered() -> None:
    app, _ = app_of(lines_of(JOINED), lines_of(b"1\n", b"2\n"), lines_of(b"1\n"))
    assert checked(app).found == []


@pytest.mark.usefixtures("any_wait_is_long")
def test_a_post_is_sent_once() -> None:
    app, asked = app_of(lines_of(JOINED))
    doctor = checked(app, method="POST")
    assert [one.code for one in doctor.found] == ["buffered"]
    assert doctor.notes == {"compression-buffers": "POST is sent once"}
    assert len(asked) == 1


def test_an_event_stream_by_post_is_sent_once() -> None:
    last = b"id: 1\nevent: end\ndata: {}\n\n"
    app, asked = app_of(events_of(last))
    doctor = checked(app, method="POST")
    assert doctor.found == []
    assert doctor.notes.keys() == {"compression-buffers", "resume-ignored"}
    assert len(asked) == 1


def test_at_once_is_late_and_together() -> None:
    assert at_once(1.0, 1.09, 1, 2)
    assert not at_once(0.99, 0.99, 1, 2)
    assert not at_once(1.0, 1.2, 1, 2)
    assert not at_once(1.0, 1.0, 1, 1)
    assert not at_once(2.0, 2.0, 2, 3)
    assert not at_once(None, 0.0, 0, 9)


ONE = b"id: 1\ndata: a\n\n"
TWO = b"id: 2\ndata: b\n\n"
END = b"id: 3\nevent: end\ndata: c\n\n"
WHOLE = (ONE, TWO, END)


def test_a_reconnect_sends_the_last_id_as_a_browser_does() -> None:
    gzip, gone = events_of(*WHOLE), Response(status_code=204)
    app, asked = app_of(events_of(*WHOLE), gzip, events_of(TWO, END), gone)
    doctor = checked(app)
    assert doctor.found == []
    assert [headers.get("last-event-id") for headers in asked] == [None, None, "2", "3"]
    assert [headers["accept-encoding"] for headers in asked] == [
        "identity",
        "gzip",
        "identity",
        "identity",
    ]


def test_events_that_come_again_after_the_end_are_a_finding() -> None:
    app, _ = app_of(*(events_of(*WHOLE) for _ in range(4)))
    doctor = checked(app)
    assert [(one.code, one.seen) for one in doctor.found] == [
        ("resume-ignored", "after id 3 it sent 1 again")
    ]
    assert "resume-ignored" not in doctor.notes


def test_a_replay_from_the_middle_is_a_note_if_the_end_is_known() -> None:
    whole = [events_of(*WHOLE) for _ in range(3)]
    app, _ = app_of(*whole, Response(status_code=204))
    doctor = checked(app)
    assert doctor.found == []
    assert "with the same ids" in doctor.notes["resume-ignored"]


def test_after_the_end_a_feed_may_bring_something_new() -> None:
    last = events_of(END), events_of(END)
    app, asked = app_of(*last, events_of(b"data: hello\n\n"))
    assert (checked(app).found, len(asked)) == ([], 3)


def test_after_the_end_a_feed_that_resumes_may_begin_anew() -> None:
    whole = events_of(*WHOLE), events_of(*WHOLE)
    app, asked = app_of(*whole, events_of(END), events_of(*WHOLE))
    assert (checked(app).found, len(asked)) == ([], 4)


def test_events_that_are_not_sent_again_are_lost() -> None:
    app, _ = app_of(events_of(*WHOLE), events_of(*WHOLE), events_of())
    assert [one.code for one in checked(app).found] == ["resume-lost"]


def test_an_end_without_a_mark_is_known_by_the_204() -> None:
    gone = Response(status_code=204)
    app, _ = app_of(events_of(ONE, TWO), events_of(ONE), events_of(TWO), gone)
    assert checked(app).found == []
    app, _ = app_of(events_of(ONE, TWO), events_of(ONE), events_of(TWO), events_of())
    assert [one.code for one in checked(app).found] == ["no-end"]


def test_an_id_of_any_characters_is_sent_back() -> None:
    first = "id: tee-é\nevent: end\ndata: {}\n\n".encode()
    app, asked = app_of(events_of(first), events_of(first), Response(status_code=204))
    assert checked(app).found == []
    sent = asked[2]["last-event-id"]
    assert sent.encode("latin-1").decode() == "tee-é"


def test_a_compressed_stream_that_gives_nothing_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cookbook.check.SETTLE", 0.0)
    monkeypatch.setattr("cookbook.check.PATIENCE", 0.1)
    left = asyncio.Event()

    async def held() -> AsyncIterator[bytes]:
        packer = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
        yield packer.compress(b"tea")
        await left.wait()  # until the client leaves

    def packed() -> StreamingResponse:
        headers = {"content-encoding": "gzip"}
        return StreamingResponse(held(), headers=headers, media_type="text/plain")

    plain = StreamingResponse(iter([b"tea", b"pot"]), media_type="text/plain")
    app, asked = app_of(plain, packed(), packed())
    doctor = checked(app)
    assert [one.code for one in doctor.found] == ["compression-buffers"]
    assert "nothing could be unpacked of gzip" in doctor.found[0].seen
    assert len(asked) == 3


def test_a_server_that_compresses_slowly_only_once_is_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cookbook.check.SETTLE", 0.1)
    monkeypatch.setattr("cookbook.check.PATIENCE", 0.1)
    left = asyncio.Event()
    packer = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)

    async def held() -> AsyncIterator[bytes]:
        yield packer.compress(b"tea")
        await left.wait()  # until the client leaves

    whole = packer.compress(b"tea") + packer.flush()
    headers = {"content-encoding": "gzip"}
    app, asked = app_of(
        StreamingResponse(held(), headers=headers), Response(whole, headers=headers)
    )
    with serving(app) as url:
        doctor = Check(Ask(url))
        # Whatever the machine does, the second answer comes within these two seconds.
        doctor.watched = heard(EVENT, EVENT, pause=2.0, ask=doctor.seen.ask)
        asyncio.run(doctor.compression())
    assert (doctor.found, len(asked)) == ([], 2)


def test_of_a_long_answer_only_a_part_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cookbook.check.ENOUGH", 100)

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"data: {}\n\n"
            await asyncio.sleep(0)

    app, _ = app_of(StreamingResponse(endless(), headers=EVENTS))
    with serving(app) as url:
        doctor = Check(Ask(url))
        run = asyncio.run(doctor.again(doctor.seen.ask, WAIT))
    assert run
    assert run.seen.ending == "left"
    assert run.seen.size > 100


def test_gzip_that_is_none_is_found_when_it_is_asked_for() -> None:
    plain = StreamingResponse(iter([b"tea"]), media_type="text/plain")
    headers = {"content-encoding": "gzip"}
    wrong = StreamingResponse(iter([b"tea"]), headers=headers, media_type="text/plain")
    app, _ = app_of(plain, wrong)
    assert [one.code for one in checked(app).found] == ["bad-encoding"]


def test_a_server_that_has_gone_is_no_finding() -> None:
    """A server that answers only once cannot be judged further."""
    run = heard(EVENT, ask=Ask(f"http://127.0.0.1:{free_port()}"))
    doctor = Check(run.seen.ask)
    doctor.watched = run
    asyncio.run(doctor.compression())
    assert doctor.found == []
    assert "another request" in doctor.notes


def test_nobody_answers() -> None:
    with pytest.raises(NoAnswerError, match="Is the server running"):
        asyncio.run(Check(Ask(f"127.0.0.1:{free_port()}")).look())


@pytest.mark.parametrize(
    ("ending", "seconds", "silence", "headers", "result"),
    [
        ("left", 20.0, 15.0, EVENTS, "found"),
        ("complete", 20.0, 15.0, EVENTS, "found"),
        ("left", 14.0, 15.0, EVENTS, "note"),
        ("complete", 14.0, 15.0, EVENTS, ""),
        ("left", 20.0, 15.0, EVENTS | LENGTH, ""),
    ],
)
def test_a_silence_is_judged_only_if_it_was_watched_long_enough(
    ending: str, seconds: float, silence: float, headers: dict[str, str], result: str
) -> None:
    doctor = Check(Ask("http://shop"), silence=silence)
    doctor.watched = heard(EVENT, headers=headers, ending=ending)
    doctor.watched.seen.seconds = seconds
    doctor.keep_alive()
    assert [one.code for one in doctor.found] == ["no-keep-alive"] * (result == "found")
    assert ("no-keep-alive" in doctor.notes) is (result == "note")
