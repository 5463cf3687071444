"""docs/recipes/sse_notifications.md: every claim the page makes, proved."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from anyio import BrokenResourceError
from fastapi import FastAPI, HTTPException
from fastapi.exceptions import ResponseValidationError
from fastapi.sse import EventSourceResponse, ServerSentEvent
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from recipes import sse_notifications
from recipes.sse_notifications import (
    KEPT,
    START,
    WAITING,
    Account,
    Change,
    Channel,
    Event,
    Heartbeat,
    Init,
    Message,
    NewMessage,
    Order,
    OrderChanged,
    Queue,
    account_of,
    app,
    follow,
)
from tests.kit import sse
from tests.kit.asgi import WAIT, drive, note

EVENTS = "/users/ada/events"
ROUTES = [EVENTS, "/users/ada/models"]
ORDER_7 = {"id": 7, "item": "green tea", "state": "placed"}
ORDER_8 = {"id": 8, "item": "honey", "state": "shipped"}
INIT = {"type": "init", "version": 0, "orders": [ORDER_7, ORDER_8], "messages": []}
ANY: TypeAdapter[Any] = TypeAdapter(Event)

Told = dict[str, Any]  # what an event or an answer says


@pytest.fixture(autouse=True)
def no_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no heartbeat come between two events of a test."""
    monkeypatch.setattr(sse_notifications, "HEARTBEAT", 60)


@pytest.fixture
def fast_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let heartbeats come quickly."""
    monkeypatch.setattr(sse_notifications, "HEARTBEAT", 0.001)


@pytest.fixture
def accounts(monkeypatch: pytest.MonkeyPatch) -> list[Account]:
    """Collect the accounts of the application that is started; they note much."""
    made: list[Account] = []

    class NotedChannel(Channel):
        @contextmanager
        def subscribed(self) -> Iterator[Queue]:
            note("subscribed")
            try:
                with super().subscribed() as queue:
                    yield queue
            finally:
                note("unsubscribed")

    class NotedAccount(Account):
        def __init__(self, *orders: Order) -> None:
            super().__init__(*orders)
            self.channel = NotedChannel()
            made.append(self)

        async def read(self) -> Init:
            note("read")
            return await super().read()

    monkeypatch.setattr(sse_notifications, "Account", NotedAccount)
    return made


@pytest.fixture
def client() -> Iterator[TestClient]:
    """Run the application, with fresh accounts."""
    with TestClient(app) as running:
        yield running


@contextmanager
def listening(client: TestClient, path: str = EVENTS) -> Iterator[Callable[[], Told]]:
    """Open a stream, and give what reads its next event."""
    with client.stream("GET", path) as answer:
        assert answer.status_code == 200
        chunks = answer.iter_raw()

        def following() -> Told:
            (event,) = sse.parse([next(chunks)]).events
            data: Told = json.loads(event.data)
            assert event.event in ("message", data["type"])
            assert event.id == ""
            return data

        yield following


def pay(client: TestClient, user: str = "ada", order: int = 7) -> Told:
    """Let an order be paid for."""
    path = f"/users/{user}/orders/{order}"
    answer = client.post(path, json={"state": "paid"})
    assert answer.status_code == 200, answer.text
    changed: Told = answer.json()
    return changed


def tell(client: TestClient, text: str, user: str = "ada") -> Told:
    """Send a message."""
    answer = client.post(f"/users/{user}/messages", json={"text": text})
    assert answer.status_code == 201, answer.text
    told: Told = answer.json()
    return told


# What is sent


@pytest.mark.usefixtures("fast_heartbeat")
def test_these_are_the_bytes_of_the_first_events() -> None:
    run = drive(app, EVENTS, disconnect_at=2)
    assert run.chunks == [
        b'event: init\ndata: {"type":"init","version":0,"orders":'
        b'[{"id":7,"item":"green tea","state":"placed"},'
        b'{"id":8,"item":"honey","state":"shipped"}],"messages":[]}\n\n',
        b'event: heartbeat\ndata: {"type":"heartbeat","version":0}\n\n',
    ]
    assert run.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert run.headers["x-accel-buffering"] == "no"
    assert run.headers["cache-control"] == "no-cache"


@pytest.mark.usefixtures("fast_heartbeat")
def test_the_models_go_out_without_a_name() -> None:
    run = drive(app, "/users/ada/models", disconnect_at=2)
    assert run.chunks[1] == b'data: {"type":"heartbeat","version":0}\n\n'
    assert json.loads(run.chunks[0].removeprefix(b"data: ")) == INIT


@pytest.mark.parametrize("path", ROUTES)
def test_a_stream_is_the_snapshot_and_then_every_change(
    client: TestClient, path: str
) -> None:
    with listening(client, path) as following:
        assert following() == INIT
        changed = pay(client)
        assert changed == {
            "type": "order_changed",
            "version": 1,
            "order": {**ORDER_7, "state": "paid"},
        }
        assert following() == changed
        told = tell(client, "Ring twice.")
        assert told == {"type": "message", "version": 2, "text": "Ring twice."}
        assert following() == told


def test_a_name_on_the_wire_is_the_type_of_its_data(client: TestClient) -> None:
    with client.stream("GET", EVENTS) as answer:
        chunks = answer.iter_raw()
        next(chunks)
        pay(client)
        assert next(chunks).startswith(b"event: order_changed\ndata: {")
        tell(client, "Hello")
        assert next(chunks).startswith(b"event: message\ndata: {")


def test_a_stream_that_is_opened_later_begins_with_the_changed_state(
    client: TestClient,
) -> None:
    pay(client)
    tell(client, "Ring twice.")
    with listening(client) as following:
        paid = {**ORDER_7, "state": "paid"}
        assert following() == {
            "type": "init",
            "version": 2,
            "orders": [paid, ORDER_8],
            "messages": ["Ring twice."],
        }


def test_a_snapshot_keeps_the_last_twenty_messages(client: TestClient) -> None:
    for number in range(KEPT + 5):
        tell(client, str(number))
    with listening(client) as following:
        snapshot = following()
    assert snapshot["messages"] == [str(n) for n in range(5, 25)]
    assert snapshot["version"] == 25


def test_every_stream_of_a_user_gets_every_change(client: TestClient) -> None:
    with listening(client) as first, listening(client) as second:
        assert first() == second() == INIT
        pay(client)
        tell(client, "Hello")
        assert [first()["version"], first()["version"]] == [1, 2]
        assert [second()["version"], second()["version"]] == [1, 2]


def test_a_user_never_gets_what_is_anothers(client: TestClient) -> None:
    """Attack: Two users listen: neither gets, nor can count, what is the other's."""
    with listening(client) as adas, listening(client, "/users/zoe/events") as zoes:
        snapshots = [adas(), zoes()]
        assert [[o["id"] for o in s["orders"]] for s in snapshots] == [[7, 8], [9]]
        pay(client)
        tell(client, "for ada")
        pay(client, "zoe", 9)
        tell(client, "for zoe", "zoe")
        assert [adas()["version"], adas()["text"]] == [1, "for ada"]
        # Her versions count her changes: she cannot even tell how many others have.
        assert zoes()["order"] == {"id": 9, "item": "tea pot", "state": "paid"}
        assert zoes() == {"type": "message", "version": 2, "text": "for zoe"}


def test_nobody_changes_an_order_of_another(client: TestClient) -> None:
    """Attack: A user changes another one's order: 404, and nobody is told."""
    answer = client.post("/users/ada/orders/9", json={"state": "placed"})
    assert answer.status_code == 404
    assert answer.json() == {"detail": "There is no such order."}
    with listening(client, "/users/zoe/events") as zoes:
        assert zoes()["version"] == 0


# No hole, and nothing twice


class Page:
    """What a client knows: it applies each event, and complains about a hole."""

    def __init__(self) -> None:
        self.version = -1
        self.orders: dict[int, Order] = {}
        self.messages: list[str] = []
        self.snapshots = 0

    def apply(self, event: Event) -> None:
        """Take an event over."""
        if isinstance(event, Init):
            self.snapshots += 1
            self.orders = {order.id: order for order in event.orders}
            self.messages = list(event.messages)
        elif isinstance(event, Heartbeat):
            assert event.version == self.version
        else:
            assert event.version == self.version + 1, "lost or doubled"
            if isinstance(event, OrderChanged):
                self.orders[event.order.id] = event.order
            else:
                self.messages.append(event.text)
        self.version = event.version

    def shows(self, account: Account) -> bool:
        """Tell whether it is what the account holds."""
        same = self.orders == account.orders
        messages = self.messages[-KEPT:] == list(account.messages)
        return same and messages and self.version == account.version


class BusyAccount(Account):
    """An account that changes at chosen moments of a read."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(Order(id=7, item="green tea", state="placed"))
        self.before, self.after = before, after

    async def read(self) -> Init:
        """Read it, while others change it."""
        await changes(self, self.before)
        snapshot = await super().read()
        await changes(self, self.after)
        self.before = self.after = 0
        return snapshot


async def changes(account: Account, number: int) -> None:
    """Change an account so many times, in turn by a message and an order."""
    for _ in range(number):
        if account.version % 2:
            await account.change_order(7, "paid")
        else:
            await account.add_message(f"change {account.version + 1}")


async def read_all(page: Page, account: Account, feed: AsyncIterator[Event]) -> None:
    """Read until the page knows the latest version."""
    async with asyncio.timeout(WAIT):
        while page.version != account.version:
            page.apply(await anext(feed))


@pytest.mark.timeout(60)
@given(*[st.integers(0, 3)] * 5)
def test_no_order_of_steps_loses_a_change_or_sends_it_twice(
    earlier: int, subscribed: int, before: int, after: int, later: int
) -> None:
    async def run() -> None:
        account = BusyAccount(before, after)
        await changes(account, earlier)
        with account.channel.subscribed() as queue:
            await changes(account, subscribed)
            async with aclosing(follow(account, queue)) as feed:
                page = Page()
                page.apply(await anext(feed))
                await changes(account, later)
                await read_all(page, account, feed)
                assert page.shows(account)
                assert page.snapshots == 1
                # What the snapshot held already is dropped, not kept for later.
                await account.add_message("the end")
                page.apply(await anext(feed))
                assert page.messages[-1] == "the end"
                assert queue.empty()

    asyncio.run(run())


def test_read_before_subscribing_a_change_in_between_is_lost() -> None:
    async def run() -> tuple[bool, bool]:
        shown = []
        for snapshot_first in (True, False):
            account = BusyAccount(0, 1)
            page = Page()
            if snapshot_first:
                page.apply(await account.read())
            with account.channel.subscribed() as queue:
                if snapshot_first:
                    assert queue.get_nowait() is START
                feed = follow(account, queue)
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(sse_notifications, "HEARTBEAT", 0.001)
                    for _ in range(3):
                        event = await anext(feed)
                        if not isinstance(event, Heartbeat):
                            page.apply(event)
                await feed.aclose()
            shown.append(page.shows(account))
        return shown[0], shown[1]

    assert asyncio.run(run()) == (False, True)


def test_changes_told_out_of_order_or_not_at_all_bring_a_new_snapshot() -> None:
    async def run() -> None:
        account = Account(Order(id=7, item="green tea", state="placed"))
        with account.channel.subscribed() as queue:
            feed = follow(account, queue)
            page = Page()
            page.apply(await anext(feed))
            # Two requests commit, and the second is the first to tell it.
            first = Message(type="message", version=1, text="one")
            second = Message(type="message", version=2, text="two")
            account.messages.extend(["one", "two"])
            account.version = 2
            account.channel.publish(second)
            account.channel.publish(first)
            page.apply(await anext(feed))
            assert (page.snapshots, page.messages) == (2, ["one", "two"])
            await account.add_message("three")
            page.apply(await anext(feed))
            assert page.shows(account)
            assert page.snapshots == 2
            # One is never told.
            account.messages.append("four")
            account.version += 1
            await account.add_message("five")
            page.apply(await anext(feed))
            assert page.shows(account)
            assert page.snapshots == 3

    asyncio.run(run())


def test_the_change_is_made_before_it_is_told() -> None:
    async def run() -> None:
        account = Account(Order(id=7, item="green tea", state="placed"))
        seen: list[tuple[object, ...]] = []

        class Looking(Channel):
            def publish(self, change: Change) -> None:
                now = account.version, account.orders[7].state, *account.messages
                seen.append((change.version, *now))

        account.channel = Looking()
        await account.change_order(7, "packed")
        await account.add_message("Hello")
        assert seen == [(1, 1, "packed"), (2, 2, "packed", "Hello")]

    asyncio.run(run())


def test_a_snapshot_does_not_change_any_more() -> None:
    async def run() -> None:
        account = Account(Order(id=7, item="green tea", state="placed"))
        snapshot = await account.read()
        await changes(account, 2)
        assert (snapshot.version, snapshot.messages) == (0, [])
        assert snapshot.orders[0].state == "placed"

    asyncio.run(run())


# A client that is too slow


def test_a_hundred_changes_wait_for_a_client_and_the_next_makes_it_start_again() -> (
    None
):
    async def run() -> None:
        account = Account(Order(id=7, item="green tea", state="placed"))
        with account.channel.subscribed() as slow, account.channel.subscribed() as fast:
            slow_feed, fast_feed = follow(account, slow), follow(account, fast)
            slow_page, fast_page = Page(), Page()
            slow_page.apply(await anext(slow_feed))
            fast_page.apply(await anext(fast_feed))
            for _ in range(WAITING):
                await changes(account, 1)
                fast_page.apply(await anext(fast_feed))
            assert slow.qsize() == WAITING
            await read_all(slow_page, account, slow_feed)
            assert slow_page.snapshots == 1
            # Once more, and one more.
            for _ in range(WAITING + 1):
                await changes(account, 1)
                fast_page.apply(await anext(fast_feed))
            assert slow.qsize() == 1
            await changes(account, 3)
            slow_page.apply(await anext(slow_feed))
            assert slow_page.snapshots == 2
            assert slow_page.shows(account)
            await changes(account, 1)
            await read_all(slow_page, account, slow_feed)
            await read_all(fast_page, account, fast_feed)
            assert (slow_page.snapshots, fast_page.snapshots) == (2, 1)

    asyncio.run(run())


def test_a_client_that_never_reads_costs_a_hundred_changes_at_most() -> None:
    async def run() -> None:
        account = Account(Order(id=7, item="green tea", state="placed"))
        with account.channel.subscribed() as queue:
            most = 0
            for _ in range(5 * WAITING):
                await changes(account, 1)
                most = max(most, queue.qsize())
            assert most == WAITING == 100

    asyncio.run(run())


# Heartbeats


def test_a_heartbeat_comes_after_a_second_of_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()
    waits: list[float] = []

    def timeout(seconds: float) -> asyncio.Timeout:
        waits.append(seconds)
        return asyncio.timeout(0)

    monkeypatch.setattr(
        sse_notifications, "asyncio", SimpleNamespace(timeout=timeout, Queue=Queue)
    )
    run = drive(app, EVENTS, disconnect_at=4)
    kinds = [event.event for event in sse.parse(run.chunks).events]
    assert kinds[-3:] == ["heartbeat"] * 3
    assert set(waits) == {1.0}


def test_a_heartbeat_tells_the_version_that_the_page_should_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with TestClient(app) as client, listening(client) as following:
        following()
        pay(client)
        assert following()["version"] == 1
        monkeypatch.setattr(sse_notifications, "HEARTBEAT", 0.01)
        tell(client, "Hello")
        assert following()["version"] == 2
        assert following() == {"type": "heartbeat", "version": 2}


@pytest.mark.usefixtures("fast_heartbeat")
def test_the_state_is_read_once_a_stream_however_long_it_is_open(
    accounts: list[Account],
) -> None:
    run = drive(app, EVENTS, disconnect_at=50)
    assert run.journal.count("read") == 1
    assert len(accounts) == 2


# A client that leaves


def nobody(accounts: list[Account]) -> bool:
    """Tell whether no stream is subscribed any more."""
    return not any(account.channel.queues for account in accounts)


@pytest.mark.usefixtures("fast_heartbeat")
@pytest.mark.parametrize("path", ROUTES)
def test_a_client_that_leaves_ends_its_subscription(
    path: str, accounts: list[Account]
) -> None:
    run = drive(app, path, disconnect_at=2)
    assert "unsubscribed" in run.before("returned")
    assert nobody(accounts)


@pytest.mark.usefixtures("fast_heartbeat")
@pytest.mark.parametrize(("leaves", "cancelled"), [(2, None), (None, 2)])
def test_so_does_one_that_has_stopped_reading(
    leaves: int | None, cancelled: int | None, accounts: list[Account]
) -> None:
    run = drive(app, EVENTS, stall_at=2, disconnect_at=leaves, cancel_at=cancelled)
    # The last line is how it ended. FastAPI may take a request that is cancelled for
    # one that its dependency has ended, and raise an error of its own.
    *before, ended = run.journal
    assert "unsubscribed" in before
    assert ended.split()[0] == ("returned" if leaves else "raised")
    assert nobody(accounts)


async def endless(*_: object) -> AsyncIterator[Event]:
    """Give more than a stalled client takes."""
    try:
        while True:
            yield Heartbeat(type="heartbeat", version=0)
            await asyncio.sleep(0)
    finally:
        note("closed")


@pytest.mark.parametrize("path", ROUTES)
def test_nothing_is_logged_when_a_client_leaves_that_was_too_slow(
    path: str, accounts: list[Account], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse_notifications, "follow", endless)
    run = drive(app, path, stall_at=2, disconnect_at=2)
    # The generator is closed with its subscription, not left to the collector.
    assert run.journal[-3:] == ["closed", "unsubscribed", "returned"]
    assert nobody(accounts)


def test_any_other_error_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> AsyncIterator[Event]:
        yield Heartbeat(type="heartbeat", version=0)
        raise ValueError("no database")

    monkeypatch.setattr(sse_notifications, "follow", broken)
    error = drive(app, EVENTS).error
    while isinstance(error, BaseExceptionGroup):
        (error,) = error.exceptions
    assert isinstance(error, ValueError)
    assert not isinstance(error, BrokenResourceError)


def test_a_change_outlives_the_client_that_was_told_of_it(client: TestClient) -> None:
    with listening(client) as following:
        following()
    pay(client)
    with listening(client) as following:
        assert following()["version"] == 1


# Who asks, and what they send


@pytest.mark.usefixtures("fast_heartbeat")
@pytest.mark.parametrize(
    "last",
    [
        b"",
        b"3",
        b"-1",
        b"5_00",
        b"abc",
        b"\xff\xfe",
        b"\xd9\xa3",
        b"a\x00b",
        b"'; DROP TABLE orders; --",
        b"9" * 8000,
    ],
)
def test_a_last_event_id_changes_nothing(last: bytes) -> None:
    headers = {"last-event-id": last.decode("latin-1")}
    run = drive(app, EVENTS, headers=headers, disconnect_at=1)
    assert run.status == 200
    assert json.loads(run.chunks[0].partition(b"data: ")[2]) == INIT


@pytest.mark.parametrize("name", ["eve", "Ada", "ada%00", "%FF", "ada ", "__class__"])
def test_a_stranger_gets_a_404_before_a_stream_starts(
    client: TestClient, name: str
) -> None:
    """Attack: A user that does not exist: 404 before the stream."""
    for path in (f"/users/{name}/events", f"/users/{name}/models"):
        answer = client.get(path)
        assert answer.status_code == 404
        assert answer.json() == {"detail": "There is no such user."}
    answer = client.post(f"/users/{name}/messages", json={"text": "Hello"})
    assert answer.status_code == 404


def test_one_dependency_decides_for_every_endpoint_of_a_user(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise HTTPException(403)

    monkeypatch.setitem(app.dependency_overrides, account_of, refuse)
    paths = client.get("/openapi.json").json()["paths"]
    asked = [(method, path) for path in paths for method in paths[path]]
    theirs = [(method, path) for method, path in asked if "{name}" in path]
    assert len(theirs) == 4
    for method, path in theirs:
        body = None if method == "get" else {"state": "paid", "text": "Hello"}
        url = path.format(name="ada", number=7)
        assert client.request(method, url, json=body).status_code == 403


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("messages", b'{"text":""}', 422),
        ("messages", json.dumps({"text": "x" * 501}).encode(), 422),
        ("messages", json.dumps({"text": "x" * 500}).encode(), 201),
        ("messages", json.dumps({"text": "\U0001f375" * 500}).encode(), 201),
        ("messages", b'{"text":"x"}', 201),
        ("messages", b'{"text":"x","html":"y"}', 422),
        ("messages", b'{"text":7}', 422),
        ("messages", rb'{"text":"\ud800"}', 422),
        ("messages", b'{"text":NaN}', 422),
        ("messages", b'{"text":1e999}', 422),
        ("messages", rb'{"text":"x","\ud800":1}', 422),
        ("messages", b"", 422),
        ("messages", b"null", 422),
        ("messages", b"[" * 15_000, 400),
        ("messages", b"\xff", 400),
        ("messages", b'{"text":"' + b"x" * 15_989 + b'"}', 422),
        ("messages", b'{"text":"' + b"x" * 15_990 + b'"}', 413),
        ("orders/7", b'{"state":"paid"}', 200),
        ("orders/7", b'{"state":"Paid"}', 422),
        ("orders/7", b'{"state":"paid","id":9}', 422),
        ("orders/7", b"{}", 422),
        ("orders/-1", b'{"state":"paid"}', 404),
        ("orders/5_00", b'{"state":"paid"}', 404),
        ("orders/%D9%A7", b'{"state":"paid"}', 422),
        ("orders/" + "9" * 5000, b'{"state":"paid"}', 422),
        ("orders/%00", b'{"state":"paid"}', 422),
    ],
)
def test_a_bad_body_is_refused_and_not_repeated(
    client: TestClient, path: str, body: bytes, status: int
) -> None:
    """Attack: A body too long, too deep, or no JSON: 4xx that repeats nothing."""
    headers = {"Content-Type": "application/json"}
    answer = client.post(f"/users/ada/{path}", content=body, headers=headers)
    assert answer.status_code == status
    if status == 422:
        wrong = answer.json()["detail"]
        assert wrong
        assert all(set(one) <= {"type", "loc", "msg", "ctx"} for one in wrong)
    accepted = status in (200, 201)
    with listening(client) as following:
        assert following()["version"] == int(accepted)


def test_without_the_handler_fastapi_fails_on_half_a_character_and_on_nan() -> None:
    bare = FastAPI()

    @bare.post("/messages")
    def add(new: NewMessage) -> None:
        raise AssertionError(new)

    failing = TestClient(bare, raise_server_exceptions=False)
    headers = {"Content-Type": "application/json"}
    for body in (rb'{"text":"\ud800"}', b'{"text":NaN}'):
        answer = failing.post("/messages", content=body, headers=headers)
        assert answer.status_code == 500


def test_text_of_a_message_forges_no_event(client: TestClient) -> None:
    """Attack: A message holds line ends and SSE fields: it forges no event."""
    hostile = 'x\n\nevent: init\ndata: {"orders":[]}\r\rid: 7\0<b>\u2028'
    with listening(client) as following:
        following()
        tell(client, hostile)
        assert following()["text"] == hostile
        tell(client, "next")
        assert following()["text"] == "next"


def test_the_recipe_serves_its_page_which_loads_nothing_from_another_host(
    client: TestClient,
) -> None:
    answer = client.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "http:" not in answer.text
    assert "https:" not in answer.text


# OpenAPI


def documented(application: FastAPI, path: str) -> Told:
    """Give what /openapi.json says about one event of a stream."""
    document = TestClient(application).get("/openapi.json").json()
    answer = document["paths"][path]["get"]["responses"]["200"]
    assert list(answer["content"]) == ["text/event-stream"]
    content: dict[str, Told] = answer["content"]["text/event-stream"]
    assert list(content) == ["itemSchema"]
    return content["itemSchema"]


def references(value: object) -> Iterator[str]:
    """Find every $ref in a document."""
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_the_document_says_3_1_although_item_schema_belongs_to_3_2(
    client: TestClient,
) -> None:
    assert client.get("/openapi.json").json()["openapi"] == "3.1.0"


def test_every_reference_of_the_document_leads_somewhere(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    found = set(references(document))
    start = "#/components/schemas/"
    names = {reference.removeprefix(start) for reference in found}
    assert names <= document["components"]["schemas"].keys()
    assert names >= {"Init", "OrderChanged", "Message", "Heartbeat", "Order"}


def test_fastapi_documents_a_union_of_models_that_are_yielded() -> None:
    schema = documented(app, "/users/{name}/models")
    assert schema["required"] == ["data"]
    data = schema["properties"]["data"]
    assert data["contentMediaType"] == "application/json"
    kinds = {
        "init": "#/components/schemas/Init",
        "order_changed": "#/components/schemas/OrderChanged",
        "message": "#/components/schemas/Message",
        "heartbeat": "#/components/schemas/Heartbeat",
    }
    told = data["contentSchema"]
    assert told["discriminator"] == {"propertyName": "type", "mapping": kinds}
    assert told["oneOf"] == [{"$ref": where} for where in kinds.values()]


def test_of_a_server_sent_event_fastapi_documents_no_model() -> None:
    bare = FastAPI()

    @bare.get("/events", response_class=EventSourceResponse)
    async def events() -> AsyncIterator[ServerSentEvent]:
        yield ServerSentEvent(data={}, event="init")

    schema = documented(bare, "/events")
    assert schema["properties"]["data"] == {"type": "string"}
    assert set(schema) == {"type", "properties"}


def test_the_recipe_adds_the_name_and_the_model_of_each_kind() -> None:
    schema = documented(app, "/users/{name}/events")
    assert schema["type"] == "object"
    assert schema["properties"]["data"] == {"type": "string"}
    assert schema["required"] == ["event", "data"]
    assert schema["oneOf"] == [
        {
            "properties": {
                "event": {"const": name},
                "data": {
                    "contentMediaType": "application/json",
                    "contentSchema": {"$ref": f"#/components/schemas/{model}"},
                },
            }
        }
        for name, model in [
            ("init", "Init"),
            ("order_changed", "OrderChanged"),
            ("message", "Message"),
            ("heartbeat", "Heartbeat"),
        ]
    ]


def test_every_event_on_the_wire_is_as_the_document_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with TestClient(app) as client:
        schemas = client.get("/openapi.json").json()["components"]["schemas"]
        models = {
            one["properties"]["event"]["const"]: one["properties"]["data"]
            for one in documented(app, "/users/{name}/events")["oneOf"]
        }
        seen = []
        with client.stream("GET", EVENTS) as answer:
            chunks = answer.iter_raw()
            parsed = sse.parse([next(chunks)]).events
            pay(client)
            parsed += sse.parse([next(chunks)]).events
            monkeypatch.setattr(sse_notifications, "HEARTBEAT", 0.01)
            tell(client, "Hello")
            parsed += sse.parse([next(chunks), next(chunks)]).events
        for event in parsed:
            where = models[event.event]["contentSchema"]["$ref"]
            schema = schemas[where.rpartition("/")[2]]
            data = json.loads(event.data)
            assert list(data) == schema["required"] == list(schema["properties"])
            assert schema["properties"]["type"]["const"] == event.event
            assert ANY.validate_python(data, strict=True).type == event.event
            seen.append(event.event)
    assert seen == ["init", "order_changed", "message", "heartbeat"] == list(models)


def test_the_type_is_always_there_and_the_schema_says_so(client: TestClient) -> None:
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    for model in (Init, OrderChanged, Message, Heartbeat):
        required = schemas[model.__name__]["required"]
        assert required == list(model.model_fields)


def test_only_models_that_are_yielded_themselves_are_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def wrong(*_: object) -> AsyncIterator[Any]:
        yield SimpleNamespace(type="message", text=7)

    monkeypatch.setattr(sse_notifications, "follow", wrong)
    error = drive(app, "/users/ada/models").error
    while isinstance(error, BaseExceptionGroup):
        (error,) = error.exceptions
    assert isinstance(error, ResponseValidationError)
    run = drive(app, EVENTS)
    assert run.chunks == [b'event: message\ndata: {"type": "message", "text": 7}\n\n']
