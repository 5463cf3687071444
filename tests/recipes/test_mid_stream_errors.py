"""docs/recipes/mid_stream_errors.md: every claim the page makes, proved on the recipe.

What real clients and servers make of it is proved in tests/servers and tests/browser.
"""

import asyncio
import json
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator
from types import SimpleNamespace

import anyio
import fastapi.routing
import pytest
from anyio import BrokenResourceError
from fastapi import BackgroundTasks, FastAPI, HTTPException, Response
from fastapi.sse import EventSourceResponse
from fastapi.testclient import TestClient

from recipes import mid_stream_errors as recipe
from recipes.mid_stream_errors import Item, Order, app, to_its_end
from tests.kit import sse
from tests.kit.asgi import Run, drive, note

EVENTS = ("/native", "/sse-starlette", "/by-hand")
ROUTES = (*EVENTS, "/ndjson", "/text")
TELLING = (*EVENTS, "/ndjson")  # those that can say how they ended
CAUSE = "db-7.internal"
NAMES = ["green tea", "tea pot", "honey", "crème brûlée", "tea cosy"]
ORDERS = [{"type": "order", "id": n, "item": i} for n, i in enumerate(NAMES, start=1)]
client = TestClient(app, raise_server_exceptions=False)

every_route = pytest.mark.parametrize("path", ROUTES)
every_feed = pytest.mark.parametrize("path", EVENTS)
every_telling = pytest.mark.parametrize("path", TELLING)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the shop work faster."""
    monkeypatch.setattr(recipe, "PAUSE", 0)


@pytest.fixture
def noted_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the shop by one without end that notes what it does."""

    async def endless(_: str, __: int) -> AsyncGenerator[Order]:
        number = 0
        try:
            while True:
                number += 1
                note(f"order {number}")
                yield Order(id=number, item="tea")
                await asyncio.sleep(0)
        finally:
            note("closed")

    monkeypatch.setattr(recipe, "read_orders", endless)


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Replace the shop by one that fails after two orders."""

    async def failing(_: str, __: int) -> AsyncGenerator[Order]:
        yield Order(id=1, item="tea")
        yield Order(id=2, item="tea")
        raise error

    monkeypatch.setattr(recipe, "read_orders", failing)


def items(run: Run) -> list[dict[str, object]]:
    """Read what an answer says, whatever its format."""
    if run.headers["content-type"].startswith("text/event-stream"):
        events = sse.parse(run.chunks).events
        found = [json.loads(event.data) for event in events]
        assert [event.event for event in events] == [item["type"] for item in found]
        return found
    if run.headers["content-type"].startswith("text/plain"):
        lines = [line.split(" ", 1) for line in run.body.decode().splitlines()]
        return [{"type": "order", "id": int(n), "item": item} for n, item in lines]
    assert run.headers["content-type"] == "application/jsonl"
    return [json.loads(line) for line in run.body.splitlines()]


@every_telling
def test_a_failure_is_the_last_item_after_all_orders_that_came_before(
    path: str,
) -> None:
    run = drive(app, path)
    reference = run.headers["x-request-id"]
    failed = {"type": "failed", "orders": 3, "reference": reference}
    assert items(run) == [*ORDERS[:3], failed]
    assert (run.status, run.error) == (200, None)
    assert "end" in run.journal


@every_telling
@pytest.mark.parametrize("orders", [0, 2, 4])
def test_it_says_how_many_orders_came_before_wherever_it_fails(
    path: str, orders: int
) -> None:
    answer = client.get(f"{path}?fail_at={orders + 1}")
    assert f'"type":"failed","orders":{orders},' in answer.text


@every_telling
def test_a_feed_that_is_complete_says_so(path: str) -> None:
    run = drive(app, f"{path}?fail_at=6")
    assert items(run) == [*ORDERS, {"type": "done", "orders": 5}]


@every_telling
def test_a_customer_without_orders_gets_a_complete_answer(path: str) -> None:
    run = drive(app, f"{path}?customer=zoe")
    assert items(run) == [{"type": "done", "orders": 0}]


def test_plain_text_breaks_off(caplog: pytest.LogCaptureFixture) -> None:
    run = drive(app, "/text")
    assert run.body.decode() == "1 green tea\n2 tea pot\n3 honey\n"
    assert "end" not in run.journal
    assert isinstance(run.error, ConnectionAbortedError)
    # The server logs this one, and so says which request broke off.
    reference = run.headers["x-request-id"]
    assert str(run.error) == f"Feed {reference} is not complete"
    assert caplog.messages == [f"Feed {reference} failed after 3 orders"]


@pytest.mark.parametrize(("query", "orders"), [("?fail_at=6", 5), ("?customer=zoe", 0)])
def test_plain_text_that_is_complete_ends_as_it_should(query: str, orders: int) -> None:
    run = drive(app, f"/text{query}")
    assert items(run) == ORDERS[:orders]
    assert run.error is None
    assert "end" in run.journal


@every_feed
def test_each_event_has_an_id_and_the_last_one_that_of_the_end(path: str) -> None:
    events = sse.parse(drive(app, path).chunks).events
    assert [event.id for event in events] == ["1", "2", "3", "end"]
    complete = sse.parse(drive(app, f"{path}?fail_at=6").chunks)
    assert complete.last_event_id == "end"


def test_these_are_the_bytes_of_the_last_event_by_hand() -> None:
    run = drive(app, "/by-hand")
    reference = run.headers["x-request-id"]
    assert run.chunks[-1].decode() == (
        "event: failed\nid: end\n"
        f'data: {{"type":"failed","orders":3,"reference":"{reference}"}}\n\n'
    )


def test_by_hand_and_fastapi_send_the_same_lines_in_another_order() -> None:
    sent = []
    for path in ("/by-hand", "/native"):
        blocks = drive(app, f"{path}?fail_at=6").body.decode().split("\n\n")
        sent.append([block.split("\n") for block in blocks[:-1]])
    assert [sorted(lines) for lines in sent[0]] == [sorted(lines) for lines in sent[1]]
    fields = [[line.partition(":")[0] for line in lines] for lines, *_ in sent]
    assert fields == [["event", "id", "data"], ["event", "data", "id"]]


def test_these_are_the_bytes_of_the_last_line() -> None:
    run = drive(app, "/ndjson")
    reference = run.headers["x-request-id"]
    failed = f'{{"type":"failed","orders":3,"reference":"{reference}"}}\n'
    assert run.chunks[-1].decode() == failed


@every_route
def test_a_failure_before_the_first_order_is_a_503(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer = client.get(f"{path}?fail_at=1")
    reference = answer.headers["x-request-id"]
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["retry-after"] == "5"
    failed = {"type": "failed", "orders": 0, "reference": reference}
    assert answer.json() == {"detail": failed}
    assert caplog.messages == [f"Feed {reference} failed before its first order"]
    assert CAUSE in caplog.text


@every_route
@pytest.mark.parametrize("customer", ["nobody", "", "Ada", "%00", "%FF", "x" * 8000])
def test_an_unknown_customer_is_a_404_and_nothing_is_logged(
    path: str, customer: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer = client.get(f"{path}?customer={customer}")
    assert answer.status_code == 404
    assert answer.json() == {"detail": "There is no such customer."}
    assert caplog.messages == []


@every_route
@pytest.mark.parametrize("value", ["x", "", "1e3", "9" * 5000])
def test_a_number_that_is_none_is_refused_before_the_answer_begins(
    path: str, value: str
) -> None:
    assert client.get(f"{path}?fail_at={value}").status_code == 422


@every_route
def test_who_gets_no_first_order_in_time_is_told_503(
    path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert recipe.FIRST == 5
    monkeypatch.setattr(recipe, "FIRST", 0.01)

    async def silent(_: str, __: int) -> AsyncGenerator[Order]:
        try:
            await asyncio.Event().wait()
            yield Order(id=1, item="tea")
        finally:
            note("closed")

    monkeypatch.setattr(recipe, "read_orders", silent)
    run = drive(app, path)
    assert run.status == 503
    assert "closed" in run.before("start 503")
    assert "TimeoutError" in caplog.text


def test_the_wait_for_the_first_order_has_its_limit_and_the_next_have_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recipe, "FIRST", 1.0)

    async def slow_later(_: str, __: int) -> AsyncGenerator[Order]:
        yield Order(id=1, item="tea")
        await asyncio.sleep(1.2)
        yield Order(id=2, item="tea")

    monkeypatch.setattr(recipe, "read_orders", slow_later)
    assert items(drive(app, "/ndjson"))[-1] == {"type": "done", "orders": 2}


@every_route
@pytest.mark.parametrize("fail_at", [1, 4])
def test_the_client_never_sees_what_the_exception_says_and_the_log_does(
    path: str, fail_at: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Attack: An exception holds a secret: the client never sees its words."""
    run = drive(app, f"{path}?fail_at={fail_at}")
    told = f"{run.headers.raw} {run.body.decode()}"
    for word in (CAUSE, "password", "shop", "Error", "Traceback", ".py"):
        assert word not in told
    assert f"ConnectionError: {CAUSE} refused the password" in caplog.text
    assert run.headers["x-request-id"] in caplog.text
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert caplog.records[0].name == "uvicorn.error"


@pytest.mark.parametrize(
    "error",
    [
        ValueError("db-7.internal"),
        HTTPException(404, "db-7.internal"),
        ExceptionGroup("db-7.internal", [OSError()]),
        RuntimeError(),
        TimeoutError(),
    ],
    ids=lambda error: type(error).__name__,
)
@every_telling
def test_any_exception_of_the_source_becomes_a_last_item(
    path: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(monkeypatch, error)
    run = drive(app, path)
    assert [item["type"] for item in items(run)] == ["order", "order", "failed"]
    assert CAUSE.encode() not in run.body


@every_route
def test_references_are_sixteen_hex_digits_and_never_the_same(path: str) -> None:
    found = [drive(app, path).headers["x-request-id"] for _ in range(2)]
    assert all(re.fullmatch("[0-9a-f]{16}", one) for one in found)
    assert found[0] != found[1]


@every_route
@pytest.mark.usefixtures("noted_source")
def test_an_order_goes_out_while_the_source_is_still_being_read(path: str) -> None:
    run = drive(app, path, disconnect_at=3)
    # FastAPI's own events are made a few ahead; the others one at a time.
    ahead = 4 if path == "/native" else 1
    for chunk in (1, 2, 3):
        made = [line for line in run.before(f"chunk {chunk}") if "order" in line]
        assert chunk <= len(made) <= chunk + ahead


@every_route
@pytest.mark.usefixtures("noted_source")
@pytest.mark.parametrize("stall", [False, True])
def test_the_source_is_closed_when_the_client_leaves_and_nothing_is_logged(
    path: str, stall: bool, caplog: pytest.LogCaptureFixture
) -> None:
    run = drive(app, path, disconnect_at=2, stall_at=2 if stall else None)
    assert run.error is None
    assert "closed" in run.before("returned")
    assert caplog.messages == []


@pytest.mark.usefixtures("noted_source")
def test_without_the_dependency_a_slow_client_that_leaves_is_an_error() -> None:
    bare = FastAPI()
    bare.get("/native", response_class=EventSourceResponse)(recipe.native)
    run = drive(bare, "/native", disconnect_at=2, stall_at=2)
    assert isinstance(run.error, ExceptionGroup)
    assert run.error.subgroup(BrokenResourceError)


@every_route
@pytest.mark.usefixtures("noted_source")
def test_cancellation_is_no_failure(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = drive(app, path, cancel_at=2)
    assert isinstance(run.error, asyncio.CancelledError)
    assert "closed" in run.journal
    assert b"failed" not in run.body
    assert caplog.messages == []


def test_a_client_that_leaves_before_the_first_order_is_noticed_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left = asyncio.Event()

    async def waiting(_: str, __: int) -> AsyncGenerator[Order]:
        try:
            left.set()
            for _turn in range(200):
                await asyncio.sleep(0)
            note("first order")
            yield Order(id=1, item="tea")
            await asyncio.Event().wait()
        finally:
            note("closed")

    monkeypatch.setattr(recipe, "read_orders", waiting)
    run = drive(app, "/native", leave_after=lambda: None)
    assert "first order" in run.before("closed")
    assert "disconnect" in run.before("first order")
    assert "closed" in run.before("returned")


@every_telling
def test_a_source_with_a_task_group_around_its_yield_cannot_be_read_ahead(
    path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def grouped(_: str, __: int) -> AsyncGenerator[Order]:
        async with anyio.create_task_group():
            yield Order(id=1, item="tea")
            await asyncio.sleep(0)
            yield Order(id=2, item="tea")

    monkeypatch.setattr(recipe, "read_orders", grouped)
    run = drive(app, path)
    assert items(run)[-1]["type"] == "failed"
    said = "Attempted to exit cancel scope in a different task than it was entered in"
    assert said in caplog.text
    assert isinstance(run.error, RuntimeError)


def test_nor_can_one_with_a_timeout_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def limited(_: str, __: int) -> AsyncGenerator[Order]:
        async with asyncio.timeout(0.2):
            yield Order(id=1, item="tea")
            await asyncio.Event().wait()

    monkeypatch.setattr(recipe, "read_orders", limited)
    run = drive(app, "/native")
    # The timeout cancels the task in which it began, and that is the whole request.
    assert isinstance(run.error, asyncio.CancelledError)
    assert [item["type"] for item in items(run)] == ["order"]


def test_with_a_timeout_around_each_read_a_source_that_hangs_becomes_a_last_item(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def limited(_: str, __: int) -> AsyncGenerator[Order]:
        yield Order(id=1, item="tea")
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()

    monkeypatch.setattr(recipe, "read_orders", limited)
    run = drive(app, "/native")
    assert [item["type"] for item in items(run)] == ["order", "failed"]


def test_fastapi_pings_only_when_the_first_order_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recipe, "PAUSE", 1.0)  # before each order, the first one too
    monkeypatch.setattr(fastapi.routing, "_PING_INTERVAL", 0.4)
    chunks = drive(app, "/native", disconnect_at=2).chunks
    assert b'"id":1' in chunks[0]
    assert chunks[1] == b": ping\n\n"


@every_feed
def test_a_browser_that_comes_back_after_the_end_is_told_to_stop(path: str) -> None:
    answer = client.get(path, headers={"Last-Event-ID": "end"})
    assert (answer.status_code, answer.content) == (204, b"")


@every_feed
@pytest.mark.parametrize(
    "last", [b"3", b"", b"END", b"-1", b"5_00", b"'; --", b"\xff\xfe", b"9" * 8000]
)
def test_whatever_else_it_has_seen_it_gets_the_feed_from_the_start(
    path: str, last: bytes
) -> None:
    answer = client.get(path, headers=[(b"Last-Event-ID", last)])
    assert answer.status_code == 200
    assert sse.parse([answer.content]).last_event_id == "end"


@every_route
def test_nothing_on_the_way_keeps_or_holds_back_the_answer(path: str) -> None:
    headers = drive(app, path).headers
    assert headers.getlist("x-accel-buffering") == ["no"]
    assert headers["cache-control"] in ("no-store", "no-cache")
    assert len(headers.getlist("x-request-id")) == 1


def test_the_shop_takes_a_quarter_of_a_second_for_an_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()
    assert recipe.PAUSE == 0.25
    paused: list[float] = []

    async def pause(seconds: float) -> None:
        paused.append(seconds)

    faster = SimpleNamespace(sleep=pause, timeout=asyncio.timeout)
    monkeypatch.setattr(recipe, "asyncio", faster)
    drive(app, "/ndjson")
    assert paused == [0.25] * 4


def test_the_schema_knows_the_three_kinds_of_lines() -> None:
    document = client.get("/openapi.json").json()
    content = document["paths"]["/ndjson"]["get"]["responses"]["200"]["content"]
    kinds = content["application/jsonl"]["itemSchema"]["anyOf"]
    names = [kind["$ref"].rpartition("/")[2] for kind in kinds]
    assert names == ["Order", "Done", "Failed"]
    schemas = document["components"]["schemas"]
    consts = [schemas[name]["properties"]["type"]["const"] for name in names]
    assert consts == ["order", "done", "failed"]


def test_background_tasks_run_after_a_last_item_and_not_after_an_exception() -> None:
    done: list[str] = []
    other = FastAPI()

    async def broken() -> AsyncIterator[Order]:
        if not done:
            raise ConnectionError
        yield Order(id=2, item="tea")

    @other.get("/told")
    async def told(tasks: BackgroundTasks) -> AsyncIterator[Item]:
        tasks.add_task(done.append, "told")
        first = Order(id=1, item="tea")
        async for item in to_its_end(first, broken(), "reference"):
            yield item

    @other.get("/raised")
    async def raised(tasks: BackgroundTasks) -> AsyncIterator[Order]:
        tasks.add_task(done.append, "raised")
        yield Order(id=1, item="tea")
        raise ConnectionError

    assert drive(other, "/raised").error is not None
    assert done == []
    assert items(drive(other, "/told"))[-1]["type"] == "failed"
    assert done == ["told"]


def test_a_handler_of_the_application_is_asked_only_before_the_answer_begins() -> None:
    other = FastAPI()
    handled: list[str] = []

    @other.exception_handler(ConnectionError)
    async def handle(_: object, __: Exception) -> Response:
        handled.append("asked")
        return Response(status_code=503)

    @other.get("/before")
    async def before() -> None:
        raise ConnectionError

    @other.get("/after")
    async def after() -> AsyncIterator[Order]:
        yield Order(id=1, item="tea")
        raise ConnectionError

    assert drive(other, "/before").status == 503
    assert handled == ["asked"]
    run = drive(other, "/after")
    assert (run.status, handled) == (200, ["asked"])
    assert "response already started" in str(run.error)


def test_the_recipe_serves_its_page_which_loads_nothing_from_another_host() -> None:
    answer = client.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "new EventSource" in answer.text
    assert "http" not in answer.text


def test_its_log_is_the_one_that_uvicorn_shows() -> None:
    assert recipe.log is logging.getLogger("uvicorn.error")
