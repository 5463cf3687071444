"""docs/pitfalls/around.md: a stream goes on after its session is over."""

import asyncio
from types import SimpleNamespace

import pytest

from recipes.pitfalls.stream_limits import checked_at_start as wrong
from tests.kit.asgi import drive


@pytest.mark.parametrize(("path", "orders"), [("/events", 16), ("/right", 10)])
def test_orders_come_when_the_session_is_over(
    path: str, orders: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=100.0)

    async def sleep(seconds: float) -> None:
        clock.now += seconds
        await asyncio.sleep(0)

    times = SimpleNamespace(monotonic=lambda: clock.now)
    monkeypatch.setattr(wrong, "time", times)
    monkeypatch.setattr(wrong, "asyncio", SimpleNamespace(sleep=sleep))
    assert drive(wrong.app, "/sign-in", method="POST").status == 204
    run = drive(wrong.app, path)
    assert run.body.count(b"order ") == orders
    # Eight seconds, of which the session has five.
    assert (b"the session ended 1 s ago" in run.body) == (path == "/events")
    assert (b"closed: the session is over" in run.body) == (path == "/right")
    assert drive(wrong.app, path).status == 401


@pytest.mark.parametrize(("path", "orders"), [("/events", 16), ("/right", 3)])
def test_orders_come_when_the_user_has_signed_out(
    path: str, orders: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeps = 0

    async def sleep(_: float) -> None:
        nonlocal sleeps
        sleeps += 1
        if sleeps == 3:
            wrong.sessions["ada"] = 0  # as signing out would do
        await asyncio.sleep(0)

    monkeypatch.setattr(wrong, "asyncio", SimpleNamespace(sleep=sleep))
    assert drive(wrong.app, "/sign-in", method="POST").status == 204
    assert drive(wrong.app, path).body.count(b"order ") == orders
