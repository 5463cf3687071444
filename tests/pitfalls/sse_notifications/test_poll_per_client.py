"""docs/pitfalls/events.md: every open tab asks the database all the time."""

import asyncio
from types import SimpleNamespace

import pytest

from recipes import sse_notifications
from recipes.pitfalls.sse_notifications import poll_per_client
from recipes.pitfalls.sse_notifications.poll_per_client import CountedAccount
from recipes.sse_notifications import Init
from tests.kit.asgi import drive


@pytest.fixture(autouse=True)
def no_queries(monkeypatch: pytest.MonkeyPatch) -> list[Init]:
    """Begin each test without a query, and let time pass quickly."""
    queries: list[Init] = []

    async def pause(_: float) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(poll_per_client, "queries", queries)
    monkeypatch.setattr(poll_per_client, "asyncio", SimpleNamespace(sleep=pause))
    monkeypatch.setattr(sse_notifications, "HEARTBEAT", 0.001)
    monkeypatch.setattr(sse_notifications, "Account", CountedAccount)
    return queries


@pytest.mark.parametrize("clients", [1, 3])
def test_every_client_that_polls_costs_a_query_each_time(
    clients: int, no_queries: list[Init]
) -> None:
    for _ in range(clients):
        run = drive(poll_per_client.app, "/events")
        assert len(run.chunks) == 1, "nothing has changed"
    assert poll_per_client.count() == {"changes": 0, "queries": 20 * clients}
    assert len(no_queries) == 20 * clients


@pytest.mark.parametrize("clients", [1, 3])
def test_a_client_that_is_told_costs_one(clients: int, no_queries: list[Init]) -> None:
    for _ in range(clients):
        # The snapshot, and as many heartbeats as the other looked for changes.
        run = drive(sse_notifications.app, "/users/ada/events", disconnect_at=20)
        assert len(run.chunks) == 20
    assert len(no_queries) == clients
