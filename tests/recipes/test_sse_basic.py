"""docs/recipes/sse_basic.md: every claim the page makes, proved against the recipe."""

import asyncio
import inspect
import json
import re
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import fastapi.routing
import fastapi.sse
import httpx2
import pydantic
import pytest
import sse_starlette
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from recipes import sse_basic
from recipes.pitfalls.sse_basic import end_without_data
from recipes.sse_basic import END, RETRY, Event, frame
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


# --8<-- [start:client]
def read_feed(client: httpx2.Client, path: str) -> Iterator[httpx2.ServerSentEvent]:
    """Give each event as it arrives, up to the one that says it is the last."""
    with client.sse(path) as events:
        for event in events:
            yield event
            if event.event == "end":
                return


# --8<-- [end:client]
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
def test_the_python_client_reads_them_and_stops_at_the_end(path: str) -> None:
    events = [(e.event, e.data, e.id) for e in read_feed(client, path)]
    assert events == FEED


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


@given(st.text())
def test_any_text_arrives_whole_and_forges_nothing(text: str) -> None:
    parsed = sse.parse([frame(Event(text, "note", "1")).encode()])
    assert parsed.events == [sse.Event("note", re.sub("\r\n?", "\n", text), "1")]


def test_exactly_one_space_is_stripped() -> None:
    (event,) = sse.parse([frame(Event("  two", "note", "1")).encode()]).events
    assert event.data == "  two"


@pytest.mark.parametrize("bad", ["a\nb", "a\rb", "a\0b"])
@pytest.mark.parametrize("field", ["event", "id", "comment"])
def test_by_hand_a_field_that_would_break_out_is_refused(field: str, bad: str) -> None:
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
def test_in_fastapi_it_is_left_to_the_garbage_collector_and_an_error_is_logged() -> (
    None
):
    run = drive(sse_basic.app, "/native", stall_at=3, disconnect_at=3)
    assert run.journal[-2:] == ["disconnect", "raised ExceptionGroup"]


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
def test_any_other_last_event_id_gets_the_whole_feed(path: str, last: str) -> None:
    headers = {b"last-event-id": last.encode("latin-1")}
    response = client.get(path, headers=headers)
    assert len(sse.parse([response.content]).events) == len(FEED)


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
