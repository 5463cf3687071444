"""docs/recipes/sse_basic.md: every claim the page makes, proved against the recipe."""

import asyncio
import importlib.util
import inspect
import json
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fastapi.routing
import fastapi.sse
import pydantic
import pytest
import sse_starlette
from anyio import BrokenResourceError
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from recipes import sse_basic
from recipes.pitfalls.sse_basic import end_without_data
from recipes.sse_basic import (
    END,
    RETRY,
    Event,
    Order,
    frame,
    slow_client_may_leave,
)
from tests.kit import sse
from tests.kit.asgi import drive, note

ROUTES = ("/native", "/by-hand", "/sse-starlette")
FEED = [
    ("order", '{"id":7,"state":"placed"}', "1"),
    ("order", '{"id":7,"state":"paid"}', "2"),
    ("order", '{"id":7,"state":"packed"}', "3"),
    ("order", '{"id":7,"state":"shipped"}', "4"),
    ("note", "Leave it at the door.\nRing twice.", "5"),
    ("end", "{}", "end"),
]
client = TestClient(sse_basic.app)


@pytest.fixture(autouse=True)
def noted_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the shop work faster, and note it."""

    async def pause(_: float) -> None:
        note("pause")
        await asyncio.sleep(0.01)

    monkeypatch.setattr(sse_basic, "asyncio", SimpleNamespace(sleep=pause))


@pytest.fixture
def noted_feed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the feed by one that never ends and notes when it is closed."""

    async def endless() -> AsyncIterator[Event]:
        try:
            while True:
                yield Event("{}", "order", "1")
                await asyncio.sleep(0)
        finally:
            note("finally")

    monkeypatch.setattr(sse_basic, "order_events", endless)


@pytest.mark.parametrize("path", ROUTES)
def test_all_three_routes_send_the_same_events(path: str) -> None:
    parsed = sse.parse([client.get(path).content])
    assert [tuple(event) for event in parsed.events] == FEED
    assert (parsed.retry, parsed.last_event_id) == (RETRY, END)


@pytest.mark.parametrize("path", ROUTES)
def test_an_event_is_a_chunk_and_goes_out_before_the_next_is_made(path: str) -> None:
    run = drive(sse_basic.app, path)
    assert len(run.chunks) == len(FEED)
    # One pause before each of the states, none before the note and the end. FastAPI
    # asks for the next event while the last is being sent.
    ahead = 1 if path == "/native" else 0
    for number in (1, 2, 3, 4):
        made = run.before(f"chunk {number}").count("pause")
        assert number - 1 <= made <= number - 1 + ahead


def test_the_shop_pauses_half_a_second_before_each_change_of_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paused: list[float] = []

    async def pause(seconds: float) -> None:
        paused.append(seconds)

    monkeypatch.setattr(sse_basic, "asyncio", SimpleNamespace(sleep=pause))
    drive(sse_basic.app, "/by-hand")
    assert paused == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("path", ROUTES)
def test_the_headers_say_what_it_is_and_tell_a_proxy_not_to_hold_it(path: str) -> None:
    headers = drive(sse_basic.app, path).headers
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["x-accel-buffering"] == "no"
    assert headers["cache-control"] in ("no-cache", "no-store")


def test_these_are_the_bytes_of_the_first_event_by_hand() -> None:
    assert drive(sse_basic.app, "/by-hand").chunks[0] == (
        b": the feed of order 7\nevent: order\nid: 1\n"
        b'data: {"id":7,"state":"placed"}\nretry: 2000\n\n'
    )


def test_only_sse_starlette_ends_its_lines_with_cr_lf() -> None:
    with_cr = [path for path in ROUTES if b"\r\n" in client.get(path).content]
    assert with_cr == ["/sse-starlette"]


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_text_is_split_at_every_kind_of_line_end(end: str) -> None:
    framed = frame(Event(f"one{end}two", "note", "1"))
    assert framed == "event: note\nid: 1\ndata: one\ndata: two\n\n"


@pytest.mark.timeout(60)
@given(st.text())
def test_any_text_arrives_whole_and_forges_nothing(text: str) -> None:
    """Attack: An event with any text: it forges no other event."""
    parsed = sse.parse([frame(Event(text, "note", "1")).encode()])
    assert parsed.events == [sse.Event("note", re.sub("\r\n?", "\n", text), "1")]


def test_exactly_one_space_is_stripped() -> None:
    (event,) = sse.parse([frame(Event("  two", "note", "1")).encode()]).events
    assert event.data == "  two"


@pytest.mark.parametrize("bad", ["a\nb", "a\rb", "a\0b"])
@pytest.mark.parametrize("field", ["event", "id", "comment"])
def test_by_hand_a_field_that_would_break_out_is_refused(field: str, bad: str) -> None:
    """Attack: A line end in an event's name, id or comment: refused."""
    fields: dict[str, Any] = {"data": "{}", "event": "order", "id": "1", field: bad}
    event = Event(**fields)
    with pytest.raises(ValueError, match="one line each"):
        frame(event)


@pytest.mark.parametrize("field", ["event", "id"])
def test_fastapi_refuses_it_and_sse_starlette_removes_it(field: str) -> None:
    bad: dict[str, Any] = {field: "a\nb"}
    with pytest.raises(pydantic.ValidationError, match="single line"):
        fastapi.sse.ServerSentEvent(raw_data="{}", **bad)
    encoded = sse_starlette.ServerSentEvent("{}", **bad).encode()
    assert f"{field}: ab\r\n".encode() in encoded


def test_json_is_made_by_fastapi_and_not_by_sse_starlette() -> None:
    content = TestClient(end_without_data.app).get("/complete-events").content
    assert json.loads(sse.parse([content]).events[0].data) == {"id": 7, "state": "paid"}
    encoded = sse_starlette.ServerSentEvent({"gift": None}).encode()
    assert b"data: {'gift': None}" in encoded


def test_a_retry_of_zero_is_a_retry() -> None:
    assert "retry: 0\n" in frame(Event("{}", "order", "1", retry=0))


@pytest.mark.parametrize(("path", "pings"), [("/native", True), ("/by-hand", False)])
def test_fastapi_pings_while_the_feed_is_silent_and_by_hand_nobody_does(
    path: str, pings: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(_: float) -> None:
        await asyncio.sleep(0.05)

    monkeypatch.setattr(sse_basic, "asyncio", SimpleNamespace(sleep=silent))
    monkeypatch.setattr(fastapi.routing, "_PING_INTERVAL", 0.001)
    body = drive(sse_basic.app, path).body
    assert (b": ping\n\n" in body) == pings


def test_both_ping_after_15_silent_seconds_and_only_one_lets_you_choose() -> None:
    assert fastapi.sse._PING_INTERVAL == 15
    assert sse_starlette.EventSourceResponse.DEFAULT_PING_INTERVAL == 15
    assert "ping" in inspect.signature(sse_starlette.EventSourceResponse).parameters
    assert "ping" not in inspect.signature(fastapi.sse.EventSourceResponse).parameters


@pytest.mark.usefixtures("noted_feed")
@pytest.mark.parametrize("path", ["/by-hand", "/sse-starlette"])
def test_by_hand_and_in_sse_starlette_the_feed_ends_at_once_when_a_slow_client_leaves(
    path: str,
) -> None:
    run = drive(sse_basic.app, path, stall_at=3, disconnect_at=3)
    assert "finally" in run.before("returned")


@pytest.mark.usefixtures("noted_feed")
def test_in_fastapi_the_feed_is_left_to_the_garbage_collector() -> None:
    run = drive(sse_basic.app, "/native", stall_at=3, disconnect_at=3)
    assert run.journal[-2:] == ["disconnect", "returned"]


@pytest.mark.usefixtures("noted_feed")
def test_without_the_dependency_fastapi_raises_because_a_slow_client_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without = {slow_client_may_leave: lambda: None}
    monkeypatch.setattr(sse_basic.app, "dependency_overrides", without)
    run = drive(sse_basic.app, "/native", stall_at=3, disconnect_at=3)
    assert run.journal[-2:] == ["disconnect", "raised ExceptionGroup"]
    assert isinstance(run.error, ExceptionGroup)
    assert [type(error) for error in run.error.exceptions] == [BrokenResourceError]


async def leave_with(error: Exception) -> None:
    """Leave the dependency with an error, as FastAPI does."""
    async with asynccontextmanager(slow_client_may_leave)():
        raise error


@pytest.mark.usefixtures("noted_feed")
def test_it_keeps_the_log_quiet_for_all_routes_of_an_app() -> None:
    async def feed() -> AsyncIterator[str]:
        async for event in sse_basic.order_events():
            yield event.data

    for dependencies, ending in [
        ([], "raised ExceptionGroup"),
        ([Depends(slow_client_may_leave)], "returned"),
    ]:
        app = FastAPI(dependencies=dependencies)
        app.get("/feed", response_class=fastapi.sse.EventSourceResponse)(feed)
        assert drive(app, "/feed", stall_at=3, disconnect_at=3).journal[-1] == ending


async def transaction() -> AsyncIterator[None]:
    """Note how the response ended."""
    try:
        yield
    except Exception:
        note("rolled back")
        raise
    note("committed")


@pytest.mark.usefixtures("noted_feed")
@pytest.mark.parametrize(
    ("of_the_app", "of_the_endpoint", "ending"),
    [
        ([slow_client_may_leave], [transaction], "rolled back"),
        # FastAPI calls a dependency once, and the application's come first.
        ([slow_client_may_leave], [transaction, slow_client_may_leave], "rolled back"),
        ([], [transaction, slow_client_may_leave], "committed"),
    ],
)
def test_a_transaction_sees_no_failure_only_if_the_dependency_comes_after_it(
    of_the_app: list[Any], of_the_endpoint: list[Any], ending: str
) -> None:
    async def feed() -> AsyncIterator[str]:
        async for event in sse_basic.order_events():
            yield event.data

    app = FastAPI(dependencies=[Depends(it) for it in of_the_app])
    app.get(
        "/feed",
        response_class=fastapi.sse.EventSourceResponse,
        dependencies=[Depends(it) for it in of_the_endpoint],
    )(feed)
    run = drive(app, "/feed", stall_at=3, disconnect_at=3)
    assert run.journal[-2:] == [ending, "returned"]


def test_the_dependency_drops_that_error_and_no_other() -> None:
    left = BrokenResourceError()
    asyncio.run(leave_with(ExceptionGroup("a slow client left", [left])))
    both = ExceptionGroup("and the feed failed", [left, ValueError("no such order")])
    with pytest.raises(ExceptionGroup) as failed:
        asyncio.run(leave_with(both))
    assert [str(error) for error in failed.value.exceptions] == ["no such order"]


@pytest.mark.parametrize("path", ROUTES)
def test_an_error_of_the_feed_leaves_every_layer(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken() -> AsyncIterator[Event]:
        yield Event("{}", "order", "1")
        raise ValueError("no such order")

    monkeypatch.setattr(sse_basic, "order_events", broken)
    error = drive(sse_basic.app, path).error
    while isinstance(error, ExceptionGroup):
        (error,) = error.exceptions
    assert isinstance(error, ValueError)


@pytest.mark.parametrize("path", ROUTES)
def test_a_client_that_leaves_stops_the_feed(path: str) -> None:
    run = drive(sse_basic.app, path, disconnect_at=1)
    assert run.journal.count("pause") <= 1
    assert run.journal[-1] == "returned"


@pytest.mark.parametrize("path", ROUTES)
def test_the_end_has_data_and_so_reaches_a_browser(path: str) -> None:
    assert sse.parse([client.get(path).content]).events[-1].event == "end"


@pytest.mark.parametrize("path", ROUTES)
def test_a_browser_that_has_seen_the_end_is_told_to_stay_away(path: str) -> None:
    response = client.get(path, headers={"Last-Event-ID": END})
    assert (response.status_code, response.content) == (204, b"")


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("last", ["", "3", "abc", "end of\x85", "9" * 5000])
def test_a_reconnect_before_the_end_gets_the_feed_from_its_first_event(
    path: str, last: str
) -> None:
    headers = {b"last-event-id": last.encode("latin-1")}
    response = client.get(path, headers=headers)
    assert [tuple(event) for event in sse.parse([response.content]).events] == FEED


def documented(app: FastAPI, path: str) -> dict[str, Any]:
    """Give what /openapi.json says about the content of a 200, by media type."""
    document = TestClient(app).get("/openapi.json").json()
    answers: dict[str, dict[str, Any]] = document["paths"][path]["get"]["responses"]
    content: dict[str, Any] = answers["200"]["content"]
    return content


def test_openapi_knows_the_frame_of_native_events_and_not_their_model() -> None:
    schema = documented(sse_basic.app, "/native")["text/event-stream"]["itemSchema"]
    assert schema["properties"]["data"] == {"type": "string"}
    document = client.get("/openapi.json").json()
    assert "Order" not in document["components"]["schemas"]


@pytest.mark.parametrize("path", ["/by-hand", "/sse-starlette"])
def test_openapi_takes_the_other_two_for_json(path: str) -> None:
    assert documented(sse_basic.app, path) == {"application/json": {"schema": {}}}


def test_openapi_knows_the_model_that_a_route_yields_itself() -> None:
    app = FastAPI()

    @app.get("/orders", response_class=fastapi.sse.EventSourceResponse)
    async def orders() -> AsyncIterator[Order]:
        yield Order(id=7, state="paid")

    schema = documented(app, "/orders")["text/event-stream"]["itemSchema"]
    assert schema["properties"]["data"] == {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": {"$ref": "#/components/schemas/Order"},
    }
    # The price: such an event has no name and no id.
    assert TestClient(app).get("/orders").content == (
        b'data: {"id":7,"state":"paid"}\n\n'
    )


def test_openapi_is_told_the_model_of_native_events_by_responses() -> None:
    schema = Order.model_json_schema()
    data = {"contentMediaType": "application/json", "contentSchema": schema}
    content = {"text/event-stream": {"itemSchema": {"properties": {"data": data}}}}
    app = FastAPI()

    @app.get(
        "/native",
        response_class=fastapi.sse.EventSourceResponse,
        responses={200: {"content": content}},
    )
    async def native() -> AsyncIterator[fastapi.sse.ServerSentEvent]:
        order = Order(id=7, state="paid")
        yield fastapi.sse.ServerSentEvent(data=order, event="order", id="2")

    told = documented(app, "/native")["text/event-stream"]["itemSchema"]
    assert told["properties"]["data"] == {"type": "string", **data}
    assert told["properties"]["id"] == {"type": "string"}
    assert b"event: order" in TestClient(app).get("/native").content


def test_the_data_of_an_order_is_json() -> None:
    orders = [json.loads(data) for event, data, _ in FEED if event == "order"]
    assert [order["state"] for order in orders] == [
        "placed",
        "paid",
        "packed",
        "shipped",
    ]


def test_the_recipe_serves_its_page_which_loads_nothing_from_another_host() -> None:
    response = client.get("/")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "new EventSource" in response.text
    assert "http" not in response.text.replace("http-equiv", "")


def test_a_copy_without_its_page_sends_the_events_and_answers_500(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "sse_basic.py"
    shutil.copy(sse_basic.__file__, copy)
    spec = importlib.util.spec_from_file_location("copied_sse_basic", copy)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "PAUSE", 0)
    alone = TestClient(module.app, raise_server_exceptions=False)
    assert alone.get("/").status_code == 500
    with alone.sse("/by-hand") as events:
        assert [event.event for event in events][-1] == "end"
    shutil.copy(Path(sse_basic.__file__).with_suffix(".html"), tmp_path)
    assert alone.get("/").status_code == 200
