"""docs/recipes/stream_middleware.md: every claim of the page, proved on the recipe."""

import asyncio
import logging
import re
import zlib
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from fastapi import APIRouter, BackgroundTasks, HTTPException, Response
from fastapi.testclient import TestClient
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.types import Message, Receive, Scope, Send

from cookbook.catalog import ROOT
from recipes import stream_middleware as recipe
from recipes.stream_middleware import LAST, PAGE, App, Measure, Order, RequestId
from tests.kit import asgi, servers, sse
from tests.kit.asgi import drive, note

PAGE_TEXT = (ROOT / "docs/recipes/stream_middleware.md").read_text("utf-8")
PATHS = ("/orders", "/events")
PACKED = {"accept-encoding": "gzip"}
LINE = '{"id":%d,"item":"tea","state":"placed"}'
LOGGED = re.compile(
    r"(?P<route>.+) (?P<status>\d+): first byte (?P<first>none|[\d.]+ s), "
    r"(?P<chunks>\d+) chunks, (?P<size>\d+) bytes, (?P<seconds>[\d.]+) s, "
    r"(?P<end>[a-z ]+); request (?P<id>\S+)"
)


PAUSE = recipe.PAUSE


@pytest.fixture(autouse=True)
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give the lines of the recipe's log, as a list that grows; nothing pauses."""
    lines: list[str] = []
    logger = logging.Logger("test", logging.INFO)
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    monkeypatch.setattr(recipe, "log", logger)
    monkeypatch.setattr(recipe, "PAUSE", 0)
    return lines


def only(lines: list[str]) -> dict[str, str]:
    """Read the one line there is."""
    assert len(lines) == 1, lines
    found = LOGGED.fullmatch(lines[0])
    assert found, lines
    return found.groupdict()


# The streams -------------------------------------------------------------------------


def test_orders_come_as_json_lines_and_as_events() -> None:
    run = drive(recipe.app, "/orders")
    assert run.headers["content-type"] == "application/jsonl"
    assert "Without `response_class`" in PAGE_TEXT
    assert [chunk.decode() for chunk in run.chunks] == [
        LINE % number + "\n" for number in range(1, LAST + 1)
    ]
    run = drive(recipe.app, "/events")
    assert run.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert run.chunks[0].decode() == f"data: {LINE % 1}\n\n"
    assert [event.data for event in sse.parse(run.chunks).events] == [
        LINE % number for number in range(1, LAST + 1)
    ]


@pytest.mark.parametrize("headers", [{}, PACKED], ids=["plain", "gzip"])
@pytest.mark.parametrize("path", PATHS)
def test_orders_are_out_before_the_next_page_is_read(
    path: str, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = asyncio.Semaphore(1)

    async def read_page(first: int, count: int) -> list[Order]:
        await pages.acquire()
        note("page")
        return [Order(id=first + number) for number in range(count)]

    monkeypatch.setattr(recipe, "read_page", read_page)
    # The second page is never read: all that comes is what was read before.
    run = drive(recipe.app, path, headers=headers, disconnect_at=PAGE)
    assert run.journal.count("page") == 1
    assert run.journal[-2:] == ["disconnect", "returned"]
    assert (PAGE, LAST, recipe.Stream(0).end) == (2, 6, "cut short")


def test_each_page_takes_half_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    clock = SimpleNamespace(sleep=pause, CancelledError=asyncio.CancelledError)
    monkeypatch.setattr(recipe, "asyncio", clock)
    monkeypatch.setattr(recipe, "PAUSE", PAUSE)
    drive(recipe.app, "/orders")
    assert pauses == [0.5] * 3


@pytest.mark.parametrize("stalls", [False, True])
@pytest.mark.parametrize("path", PATHS)
def test_a_client_that_leaves_ends_the_work_and_raises_nothing(
    path: str, stalls: bool, logged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recipe.all_orders

    async def noted(fail_at: int) -> AsyncGenerator[Order, None]:
        try:
            async for order in made(fail_at):
                yield order
        finally:
            note("closed")

    monkeypatch.setattr(recipe, "all_orders", noted)
    run = drive(recipe.app, path, stall_at=3 if stalls else None, disconnect_at=3)
    assert "closed" in run.before("returned")
    assert run.error is None
    assert only(logged)["end"] == "client left"


@pytest.mark.parametrize("wrong", ["-1", "7", "x"])
def test_a_number_that_is_no_order_is_refused_before_the_stream(
    wrong: str, logged: list[str]
) -> None:
    run = drive(recipe.app, f"/orders?fail_at={wrong}")
    assert run.status == 422
    assert only(logged) | {"status": "422", "end": "complete"} == only(logged)


@pytest.mark.parametrize(("number", "count"), [(0, LAST), (2, 1), (LAST, LAST - 1)])
def test_the_orders_before_the_one_that_fails_are_sent(number: int, count: int) -> None:
    run = drive(recipe.app, f"/orders?fail_at={number}")
    assert len(run.chunks) == count
    assert (run.error is None) == (number == 0)


def test_a_failure_before_the_first_chunk_becomes_a_500_since_the_head_is_held(
    logged: list[str],
) -> None:
    assert drive(recipe.app, "/orders?fail_at=1").status == 500
    assert (only(logged)["status"], only(logged)["end"]) == ("500", "failed")


def test_any_other_error_of_the_feed_is_raised() -> None:
    run = drive(recipe.app, "/orders?fail_at=4")
    assert isinstance(run.error, ValueError)
    assert str(run.error) == "Order 4 cannot be read"
    assert len(run.chunks) == 3


# What is measured --------------------------------------------------------------------


def test_the_constants_are_what_the_page_says() -> None:
    text = " ".join(PAGE_TEXT.split())
    assert "A query takes `PAUSE`, half a second, and reads `PAGE` orders, two" in text
    assert "`LAST` is the newest order, 6." in text
    assert (PAUSE, PAGE, LAST) == (0.5, 2, 6)


@pytest.mark.parametrize("headers", [{}, PACKED], ids=["plain", "gzip"])
@pytest.mark.parametrize("path", PATHS)
def test_chunks_and_bytes_are_those_that_leave(
    path: str, headers: dict[str, str], logged: list[str]
) -> None:
    run = drive(recipe.app, path, headers=headers)
    told = only(logged)
    assert int(told["chunks"]) == len(run.chunks)
    assert int(told["size"]) == len(run.body)
    assert (told["route"], told["status"], told["end"]) == (path, "200", "complete")


@pytest.mark.parametrize(
    ("options", "end"),
    [
        ({}, "complete"),
        ({"disconnect_at": 3}, "client left"),
        ({"cancel_at": 3}, "given up"),
        ({"path": "?fail_at=4"}, "failed"),
    ],
)
@pytest.mark.parametrize("path", PATHS)
def test_the_log_says_how_the_stream_ended(
    path: str, options: dict[str, Any], end: str, logged: list[str]
) -> None:
    options = dict(options)
    drive(recipe.app, path + options.pop("path", ""), **options)
    assert only(logged)["end"] == end
    assert f"| `{end}` |" in PAGE_TEXT


@dataclass
class Script:
    """An application that sends what it was told, and receives so many messages."""

    sent: list[Message]
    receives: int = 0
    error: Exception | None = None
    received: list[Message] = field(default_factory=list)

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        """Do it."""
        for message in self.sent:
            await send(message)
        for _number in range(self.receives):
            self.received.append(await receive())
        if self.error:
            raise self.error


START: Message = {"type": "http.response.start", "status": 207, "headers": []}
LEFT: Message = {"type": "http.disconnect"}


def body(text: bytes, *, more: bool = False) -> Message:
    """Make a message."""
    return {"type": "http.response.body", "body": text, "more_body": more}


def measured(script: Script, *answers: Message) -> list[Message]:
    """Run an application under `Measure`; give what the server was sent."""
    taken: list[Message] = []
    waiting = list(answers)

    async def receive() -> Message:
        return waiting.pop(0)

    async def send(message: Message) -> None:
        taken.append(message)

    scope = {"type": "http", "headers": []}
    asyncio.run(Measure(script)(scope, receive, send))
    return taken


def test_every_message_is_passed_on_as_it_is(logged: list[str]) -> None:
    hint: Message = {"type": "http.response.early_hint", "links": []}
    request: Message = {"type": "http.request", "body": b"7", "more_body": False}
    sent = [hint, START, body(b"", more=True), body(b"12", more=True), body(b"3")]
    script = Script(sent, receives=2)
    taken = measured(script, request, LEFT)
    assert all(one is other for one, other in zip(taken, sent, strict=True))
    assert script.received[0] is request
    assert script.received[1] is LEFT
    told = only(logged)
    assert (told["chunks"], told["size"], told["status"]) == ("2", "3", "207")
    # Who leaves after the last message has got everything.
    assert told["end"] == "complete"
    assert told["route"] == "no route"


def test_a_response_without_its_last_message_is_cut_short(logged: list[str]) -> None:
    measured(Script([START, body(b"1", more=True)]))
    assert only(logged)["end"] == "cut short"
    assert "| `cut short` |" in PAGE_TEXT


def test_no_response_at_all_has_the_status_0_and_no_first_byte(
    logged: list[str],
) -> None:
    measured(Script([], receives=1), LEFT)
    told = only(logged)
    assert (told["status"], told["first"]) == ("0", "none")
    assert (told["chunks"], told["size"], told["end"]) == ("0", "0", "client left")


def test_a_body_that_is_empty_is_complete_without_a_first_byte(
    logged: list[str],
) -> None:
    measured(Script([START, {"type": "http.response.body"}]))
    told = only(logged)
    assert (told["first"], told["chunks"], told["end"]) == ("none", "0", "complete")


def test_a_file_that_the_server_sends_is_complete_and_not_counted(
    logged: list[str],
) -> None:
    measured(Script([START, {"type": "http.response.pathsend", "path": "/x"}]))
    assert (only(logged)["end"], only(logged)["size"]) == ("complete", "0")


@pytest.mark.parametrize(("left", "end"), [(True, "client left"), (False, "failed")])
def test_an_error_after_the_client_has_left_is_no_failure_of_the_stream(
    left: bool, end: str, logged: list[str]
) -> None:
    error = RuntimeError("the clean-up failed")
    script = Script([START, body(b"1", more=True)], receives=left, error=error)
    with pytest.raises(RuntimeError):
        measured(script, LEFT)
    assert only(logged)["end"] == end


def test_a_chunk_counts_when_the_server_has_taken_it(logged: list[str]) -> None:
    # The third is sent, and waits for the client, until the server gives it up.
    async def refuse(message: Message) -> None:
        if message.get("body") == b"3":
            raise asyncio.CancelledError

    script = Script([START, body(b"1", more=True), body(b"2", more=True), body(b"3")])
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(
            Measure(script)({"type": "http"}, anyio.sleep_forever, refuse)  # type: ignore[arg-type]
        )
    told = only(logged)
    assert (told["chunks"], told["size"], told["end"]) == ("2", "2", "given up")


def test_time_to_first_byte_and_duration_are_in_seconds(
    logged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([100.0, 101.25, 109.5])
    clock = SimpleNamespace(perf_counter=lambda: next(times))
    monkeypatch.setattr(recipe, "time", clock)
    sent = [START, body(b"", more=True), body(b"1", more=True), body(b"2")]
    measured(Script(sent))
    told = only(logged)
    assert (told["first"], told["seconds"]) == ("1.250 s", "9.500")


def test_an_ordinary_endpoint_is_complete_although_its_client_has_left(
    logged: list[str],
) -> None:
    app = App()

    @app.get("/")
    async def slow() -> None:
        note("begun")
        await asyncio.to_thread(
            servers.until, lambda: "disconnect" in asgi._journal, "the client to leave"
        )

    def begun() -> None:
        servers.until(lambda: "begun" in asgi._journal, "the endpoint")

    assert drive(app, "/", leave_after=begun).lost
    assert only(logged)["end"] == "complete"


def test_a_response_500_is_measured_and_has_its_id(logged: list[str]) -> None:
    app = App()

    @app.get("/broken")
    def broken() -> None:
        raise ValueError("broken")

    run = drive(app, "/broken")
    told = only(logged)
    assert (run.status, told["status"], told["end"]) == (500, "500", "failed")
    assert run.headers["x-request-id"] == told["id"]


def test_the_log_holds_the_route_and_not_what_the_client_wrote(
    logged: list[str],
) -> None:
    app = App()
    router = APIRouter(prefix="/shop")

    @router.get("/orders/{name}")
    def order(name: str) -> None:
        """Answer nothing."""

    app.include_router(router)
    drive(app, "/shop/orders/x%0A%1B[31mINFO: forged")
    drive(app, "/nowhere%0AINFO: forged?secret=hunter2")
    told = [LOGGED.fullmatch(line) for line in logged]
    routes = [found["route"] for found in told if found]
    assert routes == ["/shop/orders/{name}", "no route"]


def test_lifespan_and_websockets_pass() -> None:
    passed: list[object] = []

    async def inner(*given: object) -> None:
        passed.append(given)

    for layer in (Measure, RequestId):
        for kind in ("lifespan", "websocket"):
            given = ({"type": kind}, anyio.sleep_forever, anyio.sleep)
            asyncio.run(layer(inner)(*given))  # type: ignore[arg-type]
            assert passed.pop() == given


# The id ------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", ["a" * 8, "order-7.A_z", "0" * 64])
@pytest.mark.parametrize("path", PATHS)
def test_a_plain_id_is_taken_logged_and_given_back(
    path: str, sent: str, logged: list[str]
) -> None:
    run = drive(recipe.app, path, headers={"X-Request-ID": sent})
    assert run.headers.getlist("x-request-id") == [sent]
    assert only(logged)["id"] == sent


HOSTILE = {
    "short": "a" * 7,
    "long": "a" * 65,
    "8 KB": "a" * 8192,
    "empty": "",
    "a space": "order 7 of ada",
    "CR LF": "order-7\r\nSet-Cookie: session=1",
    "a line feed at the end": "order-7-7\n",
    "an escape of the terminal": "order-7\x1b[31m",
    "NUL": "order-7\x00",
    "Latin": "commande-n\xb07",
    "UTF-8": "订单-7-7-7".encode().decode("latin-1"),
    "no UTF-8": "order-7\xff\xfe",
    "digits of another script": "\u0661".encode().decode("latin-1") * 8,
    "a forged field": "7, complete; request 8",
}


@pytest.mark.parametrize("sent", HOSTILE.values(), ids=HOSTILE.keys())
def test_attack_an_id_that_is_not_plain_reaches_neither_header_nor_log(
    sent: str, logged: list[str]
) -> None:
    """An X-Request-ID that is not plain: it reaches neither a header nor the log."""
    run = drive(recipe.app, "/orders", headers={"X-Request-ID": sent})
    assert run.status == 200
    (given,) = run.headers.getlist("x-request-id")
    assert re.fullmatch("[0-9a-f]{32}", given)
    assert only(logged)["id"] == given


def test_attack_two_ids_in_one_request_are_none() -> None:
    """Two X-Request-IDs in one request: neither is taken."""
    headers = [(b"x-request-id", b"order-7-7"), (b"x-request-id", b"order-8-8")]
    assert re.fullmatch("[0-9a-f]{32}", recipe.choose_id(headers))
    assert recipe.choose_id(headers[1:]) == "order-8-8"
    assert recipe.choose_id([(b"x-other", b"order-7-7")]) != "order-7-7"


def test_every_answer_has_an_id_of_its_own() -> None:
    seen = set()
    for path in ("/orders", "/orders", "/nowhere", "/orders?fail_at=x"):
        seen.add(drive(recipe.app, path).headers["x-request-id"])
    assert len(seen) == 4


def test_an_id_that_the_endpoint_sets_is_replaced() -> None:
    app = App()

    @app.get("/")
    def own(response: Response) -> None:
        response.headers["X-Request-ID"] = "mine"

    sent = {"X-Request-ID": "order-7-7"}
    run = drive(app, "/", headers=sent)
    assert run.headers.getlist("x-request-id") == ["order-7-7"]


@pytest.mark.parametrize("path", PATHS)
def test_the_generator_sees_the_id_of_its_own_request(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read_page(first: int, count: int) -> list[Order]:
        await asyncio.sleep(0)  # So that the two requests take turns.
        item = recipe.request_id.get()
        return [Order(id=first + number, item=item) for number in range(count)]

    monkeypatch.setattr(recipe, "read_page", read_page)
    sent = {"X-Request-ID": "the-first"}
    run = drive(recipe.app, path, headers=sent, also=path)
    assert run.also
    assert run.body.count(b"the-first") == LAST
    assert run.also.body.count(run.also.headers["x-request-id"].encode()) == LAST


def test_endpoints_in_threads_and_background_tasks_see_the_id_too() -> None:
    app = App()

    @app.get("/")
    def in_a_thread(tasks: BackgroundTasks) -> None:
        tasks.add_task(lambda: note(f"background {recipe.request_id.get()}"))
        note(f"endpoint {recipe.request_id.get()}")

    run = drive(app, "/", headers={"X-Request-ID": "order-7-7"})
    assert {"background order-7-7", "endpoint order-7-7"} <= set(run.journal)


def test_outside_a_request_there_is_none() -> None:
    assert recipe.request_id.get() == "none"


# Compression -------------------------------------------------------------------------


def test_each_line_can_be_unpacked_as_soon_as_it_has_come() -> None:
    run = drive(recipe.app, "/orders", headers=PACKED)
    assert run.headers["content-encoding"] == "gzip"
    assert "content-length" not in run.headers
    unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
    texts = [unpacker.decompress(chunk).decode() for chunk in run.chunks]
    assert texts[:LAST] == [LINE % number + "\n" for number in range(1, LAST + 1)]
    # One chunk more: the end of the gzip format.
    assert texts[LAST:] == [""]
    assert unpacker.eof
    sizes = (len(drive(recipe.app, "/orders").body), len(run.body))
    assert sizes == (234, 120)
    assert "`7 chunks, 120 bytes`" in PAGE_TEXT


def test_only_who_asks_gets_gzip_and_caches_are_told() -> None:
    for headers in ({}, PACKED):
        run = drive(recipe.app, "/orders", headers=headers)
        assert ("content-encoding" in run.headers) == (headers == PACKED)
        assert run.headers["vary"] == "Accept-Encoding"


def test_events_are_not_compressed() -> None:
    run = drive(recipe.app, "/events", headers=PACKED)
    assert "content-encoding" not in run.headers
    assert run.chunks[0].startswith(b"data: ")


def test_starlette_packs_even_for_who_refuses_gzip() -> None:
    run = drive(recipe.app, "/orders", headers={"accept-encoding": "gzip;q=0"})
    assert run.headers["content-encoding"] == "gzip"


def test_compression_holds_the_head_back_until_the_first_chunk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def never(_first: int, _count: int) -> list[Order]:
        note("reading")
        await anyio.sleep_forever()
        return []

    def reading() -> None:
        servers.until(lambda: "reading" in asgi._journal, "the first page")

    monkeypatch.setattr(recipe, "read_page", never)
    assert "start 200" not in drive(recipe.app, "/orders", leave_after=reading).journal
    # Events go past it, and so does everything in an app without it.
    drive(recipe.app, "/events", disconnect_at=0)
    app = App()
    app.get("/orders")(recipe.orders)
    drive(app, "/orders", disconnect_at=0)


# Spans -------------------------------------------------------------------------------


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """Keep the spans of the recipe, and those of FastAPI for the app `traced`."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(recipe, "tracer", provider.get_tracer("test"))
    app = App(telemetry={"tracer_provider": provider})
    app.include_router(recipe.app.router)
    monkeypatch.setattr(recipe, "app", app)
    yield exporter
    provider.shutdown()


def named(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    """List the spans of a name, in the order of their ends."""
    return [span for span in spans.get_finished_spans() if span.name == name]


def parent(span: ReadableSpan) -> int:
    """Give the id of the span above."""
    assert span.parent
    return span.parent.span_id


@pytest.mark.parametrize("path", PATHS)
def test_the_span_of_the_stream_holds_each_page_and_what_was_measured(
    path: str, spans: InMemorySpanExporter
) -> None:
    sent = {"X-Request-ID": "order-7-7"}
    run = drive(recipe.app, path, headers=sent)
    (stream,) = named(spans, "stream")
    (request,) = named(spans, f"GET {path}")
    pages = named(spans, "read a page")
    assert len(pages) == LAST // PAGE
    assert parent(stream) == request.context.span_id
    for page in pages:
        assert parent(page) == stream.context.span_id
        assert page.end_time is not None
        assert stream.end_time is not None
        assert page.end_time <= stream.end_time
    found = dict(stream.attributes or {})
    assert 0 < float(str(found.pop("stream.first_byte"))) < asgi.WAIT
    assert found == {
        "stream.chunks": LAST,
        "stream.bytes": len(run.body),
        "stream.end": "complete",
        "request.id": "order-7-7",
    }


def test_a_stream_without_a_byte_has_no_time_to_its_first(
    spans: InMemorySpanExporter,
) -> None:
    measured(Script([START, body(b"")]))
    (stream,) = named(spans, "stream")
    assert "stream.first_byte" not in (stream.attributes or {})


@pytest.mark.parametrize(
    ("options", "end", "code"),
    [
        ({"target": "/orders", "disconnect_at": 3}, "client left", "UNSET"),
        ({"target": "/events", "stall_at": 3, "disconnect_at": 3}, "client left", ""),
        ({"target": "/orders", "cancel_at": 3}, "given up", "UNSET"),
        ({"target": "/orders?fail_at=4"}, "failed", "ERROR"),
    ],
)
def test_only_a_failure_is_an_error_in_the_span_but_fastapi_says_so_of_each_leaver(
    options: dict[str, Any], end: str, code: str, spans: InMemorySpanExporter
) -> None:
    drive(recipe.app, **options)
    (stream,) = named(spans, "stream")
    assert (stream.attributes or {})["stream.end"] == end
    assert stream.status.status_code.name == (code or "UNSET")
    (request,) = named(spans, "GET " + options["target"].split("?")[0])
    assert request.status.status_code.name == "ERROR"
    if end == "client left":
        assert (request.attributes or {})["error.type"] == "ConnectionError"


@pytest.mark.usefixtures("spans")
def test_between_two_orders_the_span_of_a_page_is_not_current() -> None:
    async def current() -> list[bool]:
        with recipe.tracer.start_as_current_span("outer") as outer:
            feed = recipe.all_orders(0)
            return [trace.get_current_span() is outer async for _ in feed]

    assert asyncio.run(current()) == [True] * LAST


def test_the_dependency_closes_the_feed_in_another_context() -> None:
    # So a token that the feed held would be useless there.
    seen: list[str] = []
    variable = recipe.request_id

    async def feed() -> AsyncGenerator[int, None]:
        token = variable.set("in the feed")
        try:
            yield 1
        finally:
            with pytest.raises(ValueError, match="created in a different Context"):
                variable.reset(token)
            seen.append("closed")

    async def closing() -> None:
        running = feed()
        await asyncio.create_task(anext(running))
        await running.aclose()

    asyncio.run(closing())
    assert seen == ["closed"]


@pytest.mark.parametrize("hostile", ["0" * 32, "f" * 31 + "x", "\xff" * 32, "a" * 9000])
def test_attack_a_traceparent_that_is_none_breaks_nothing(
    hostile: str, spans: InMemorySpanExporter
) -> None:
    """A traceparent that is none: the request is answered."""
    sent = {"traceparent": f"00-{hostile}-{'b' * 16}-01"}
    assert drive(recipe.app, "/orders", headers=sent).status == 200
    assert named(spans, "GET /orders")[0].parent is None


def test_fastapi_takes_the_trace_that_a_client_names_and_keeps_the_query(
    spans: InMemorySpanExporter,
) -> None:
    sent = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
    drive(recipe.app, "/orders?ticket=secret", headers=sent)
    (request,) = named(spans, "GET /orders")
    assert f"{request.context.trace_id:x}" == "a" * 32
    assert (request.attributes or {})["url.query"] == "ticket=secret"


def test_without_a_provider_nothing_is_traced_and_nothing_breaks() -> None:
    assert type(recipe.tracer).__name__ == "ProxyTracer"
    assert drive(recipe.app, "/orders").status == 200


def test_the_browser_learns_from_the_documentation_what_is_streamed() -> None:
    found = TestClient(recipe.app).get("/openapi.json").json()
    assert set(found["paths"]) == set(PATHS)
    assert recipe.app.title == "stream_middleware"


def test_an_http_error_is_complete(logged: list[str]) -> None:
    app = App()

    @app.get("/")
    def gone() -> None:
        raise HTTPException(410)

    drive(app, "/")
    assert (only(logged)["status"], only(logged)["end"]) == ("410", "complete")
