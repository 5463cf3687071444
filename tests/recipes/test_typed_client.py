"""docs/recipes/typed_client.md: every claim of the page, proved on the recipe."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from fastapi import FastAPI
from fastapi.sse import EventSourceResponse
from fastapi.testclient import TestClient
from pydantic import ValidationError

from recipes import typed_client
from recipes.typed_client import COUNT, EVENTS, Numbered, OrderEvent
from tests.kit import sse
from tests.kit import typed_client as kit
from tests.kit.asgi import drive, note
from tests.kit.changed import changed

PATH = "/orders/7/events"
TYPES = ["placed", "paid", "shipped", "delivered"]
client = TestClient(typed_client.app)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing take time."""
    monkeypatch.setattr(typed_client, "PAUSE", 0)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the feed by one event, then nothing for ever; it notes its end."""

    async def feed(_: int) -> AsyncGenerator[Numbered, None]:
        try:
            yield 1, EVENTS[0]
            await anyio.sleep_forever()
        finally:
            note("closed")

    monkeypatch.setattr(typed_client, "order_events", feed)


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the feed by one that never pauses; it notes its events and its end."""

    async def feed(_: int) -> AsyncGenerator[Numbered, None]:
        try:
            while True:
                note("made")
                yield 1, EVENTS[0]
                await asyncio.sleep(0)
        finally:
            note("closed")

    monkeypatch.setattr(typed_client, "order_events", feed)


def types_of(body: bytes) -> list[str]:
    """Name the types of the events in a body."""
    return [json.loads(event.data)["type"] for event in sse.parse([body]).events]


# What is sent


@pytest.mark.usefixtures("quick")
def test_these_are_the_bytes() -> None:
    run = drive(typed_client.app, PATH)
    assert run.chunks == [
        b'data: {"type":"placed","items":["tea","teapot"]}\nid: 7-1\n\n',
        b'data: {"type":"paid","cents":3480}\nid: 7-2\n\n',
        b'data: {"type":"shipped","carrier":"Snail & Sons",'
        b'"expected":"2030-01-31"}\nid: 7-3\n\n',
        b'data: {"type":"delivered","signed_by":null}\nid: 7-4\n\n',
    ]
    assert run.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert run.headers["x-accel-buffering"] == "no"
    assert run.headers["cache-control"] == "no-cache"


@pytest.mark.usefixtures("held")
def test_the_first_event_is_sent_before_the_second_is_made() -> None:
    run = drive(typed_client.app, PATH, disconnect_at=1)
    assert types_of(run.body) == ["placed"]


def test_there_is_a_pause_after_each_event(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(typed_client, "asyncio", SimpleNamespace(sleep=sleep))
    client.get(PATH)
    assert slept == [0.5] * COUNT


# Who comes back


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("seen", range(COUNT))
def test_a_client_that_comes_back_gets_what_it_has_not(seen: int) -> None:
    headers = {"Last-Event-ID": f"7-{seen}"} if seen else {}
    response = client.get(PATH, headers=headers)
    assert types_of(response.content) == TYPES[seen:]
    ids = [event.id for event in sse.parse([response.content]).events]
    assert ids == [f"7-{number}" for number in range(seen + 1, COUNT + 1)]


def test_one_that_has_the_last_event_is_told_to_stay_away() -> None:
    response = client.get(PATH, headers={"Last-Event-ID": "7-4"})
    assert (response.status_code, response.content) == (204, b"")


NO_IDS = [b"", b"0", b"7", b"7-0", b"7-5", b"7--1", b"8-2", b"7-2 2", b"7-\xd9\xa2"]
NO_IDS += [b"\xff", b"' OR 1=1--", b"9" * 8192, b"70-2", b"7_0-1", b"7-1,7-2"]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("last", NO_IDS)
def test_an_id_that_the_order_never_had_gets_every_event(last: bytes) -> None:
    """Attack: A Last-Event-ID that is no id: the whole stream, and no error."""
    response = client.get(PATH, headers={b"last-event-id": last})
    assert (response.status_code, types_of(response.content)) == (200, TYPES)


@pytest.mark.parametrize(
    "order", ["0", "-1", "1000000", "x", "1e3", "7%00", "%FF", " "]
)
def test_an_order_that_cannot_be_is_refused_before_the_stream(order: str) -> None:
    """Attack: An order's number that is none: 422 before the stream."""
    assert client.get(f"/orders/{order}/events").status_code == 422


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("order", [1, 999_999])
def test_the_first_and_the_last_number_that_can_be(order: int) -> None:
    response = client.get(f"/orders/{order}/events")
    assert response.status_code == 200
    assert sse.parse([response.content]).last_event_id == f"{order}-4"


# Who leaves


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize("stall", [None, 1])
def test_a_client_that_leaves_ends_the_feed_at_once(stall: int | None) -> None:
    run = drive(typed_client.app, PATH, stall_at=stall, disconnect_at=1)
    assert run.before("returned")[-2:] == ["disconnect", "closed"]


@pytest.mark.usefixtures("busy")
def test_so_does_one_that_was_too_slow_for_a_busy_feed() -> None:
    run = drive(typed_client.app, PATH, stall_at=3, disconnect_at=3)
    assert run.journal[-2:] == ["closed", "returned"]
    assert run.journal.count("made") <= 8


@pytest.mark.usefixtures("held")
def test_so_does_a_server_that_gives_the_request_up() -> None:
    run = drive(typed_client.app, PATH, cancel_at=1)
    assert run.before("raised CancelledError")[-1] == "closed"


def test_an_error_of_the_feed_is_not_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_: int) -> AsyncGenerator[Numbered, None]:
        yield 1, EVENTS[0]
        raise ValueError("no such order")

    monkeypatch.setattr(typed_client, "order_events", broken)
    error = drive(typed_client.app, PATH).error
    while isinstance(error, ExceptionGroup):
        (error,) = error.exceptions
    assert isinstance(error, ValueError)


# What the schema says


def stream_of(app: FastAPI, path: str = "/orders/{order_id}/events") -> dict[str, Any]:
    """Give what an application's schema says of its stream."""
    answers = app.openapi()["paths"][path]["get"]["responses"]
    said: dict[str, Any] = answers["200"]["content"]["text/event-stream"]
    return said


def test_generators_find_the_model_where_they_look_for_it() -> None:
    document = typed_client.app.openapi()
    reference = {"$ref": "#/components/schemas/OrderEvent"}
    assert stream_of(typed_client.app)["schema"] == reference
    models = document["components"]["schemas"]
    assert models.keys() >= {"OrderEvent", "Placed", "Paid", "Shipped", "Delivered"}
    assert models["OrderEvent"]["discriminator"] == {
        "propertyName": "type",
        "mapping": {name: f"#/components/schemas/{name.title()}" for name in TYPES},
    }
    assert len(models["OrderEvent"]["oneOf"]) == COUNT
    answers = document["paths"]["/orders/{order_id}/events"]["get"]["responses"]
    assert answers["200"]["description"] == "The data of each event"
    assert answers["204"]["description"] == "The client has the last event"


def test_fastapi_alone_says_that_the_data_is_text_in_a_key_of_openapi_3_2() -> None:
    assert typed_client.app.openapi()["openapi"] == "3.1.0"
    item = stream_of(typed_client.app)["itemSchema"]
    assert item["properties"]["data"] == {"type": "string"}


def test_an_endpoint_that_yields_models_has_them_in_the_schema_but_sends_no_ids() -> (
    None
):
    app = FastAPI()

    @app.get("/events", response_class=EventSourceResponse)
    async def events() -> AsyncIterator[OrderEvent]:
        yield EVENTS[0]

    said = stream_of(app, "/events")
    assert said["itemSchema"]["properties"]["data"]["contentSchema"] == {
        "$ref": "#/components/schemas/OrderEvent"
    }
    assert "schema" not in said
    assert "Placed" in app.openapi()["components"]["schemas"]
    assert b"id:" not in drive(app, "/events").body


def test_the_kept_schema_is_that_of_the_recipe() -> None:
    kept = (kit.CLIENT / "openapi.json").read_text("utf-8")
    assert kept == kit.schema(), "run make docs, and look at what it changes"


def test_a_changed_model_changes_the_schema(tmp_path: Path) -> None:
    kept = (kit.CLIENT / "openapi.json").read_text("utf-8")
    folder = changed(tmp_path, "typed_client", *kit.CHANGE)
    assert kit.schema(kit.app_in(folder)) != kept


def test_an_event_of_an_unknown_type_is_none() -> None:
    with pytest.raises(ValidationError, match="type"):
        OrderEvent.model_validate({"type": "refunded", "cents": 1})
