"""docs/pitfalls/events.md: my page misses an update, although the stream is open."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from recipes import sse_notifications
from recipes.pitfalls.sse_notifications import snapshot_before_subscribing
from recipes.pitfalls.sse_notifications.snapshot_before_subscribing import app
from recipes.sse_notifications import Account, Event, Queue
from tests.kit import sse
from tests.kit.asgi import drive


def events(path: str, count: int) -> list[dict[str, Any]]:
    """Give the data of the first events."""
    run = drive(app, path, disconnect_at=count)
    return [json.loads(event.data) for event in sse.parse(run.chunks).events]


@pytest.mark.parametrize(
    ("path", "lost"), [("/with-a-hole", True), ("/without-a-hole", False)]
)
def test_a_change_between_snapshot_and_subscription_is_lost(
    path: str, lost: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse_notifications, "HEARTBEAT", 0.001)
    init, *rest = events(path, 5)
    assert init["version"] == 0
    assert init["orders"][0]["state"] == "placed"
    changed = [event for event in rest if event["type"] == "order_changed"]
    assert [event["order"]["state"] for event in changed] == ([] if lost else ["paid"])
    assert rest[-1] == {"type": "heartbeat", "version": 0 if lost else 1}


def test_only_the_next_change_shows_that_one_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    follow = sse_notifications.follow

    async def after_one_more(account: Account, queue: Queue) -> AsyncIterator[Event]:
        await account.add_message("Your order is on its way.")
        async for event in follow(account, queue):
            yield event

    monkeypatch.setattr(snapshot_before_subscribing, "follow", after_one_more)
    lost, found = events("/with-a-hole", 2)
    assert (lost["version"], lost["orders"][0]["state"]) == (0, "placed")
    assert (found["type"], found["version"]) == ("init", 2)
    assert found["orders"][0]["state"] == "paid"


def test_subscribed_first_it_is_told_of_the_change_next() -> None:
    snapshot, change = events("/without-a-hole", 2)
    assert (snapshot["type"], snapshot["version"]) == ("init", 0)
    assert (change["type"], change["version"]) == ("order_changed", 1)
