"""docs/pitfalls/around.md: a stream goes on after its session is over."""

import asyncio
from types import SimpleNamespace

import pytest

from recipes.pitfalls.stream_limits import checked_at_start as wrong
from tests.kit.asgi import drive


@pytest.mark.parametrize(("path", "orders"), [("/events", 10), ("/right", 2)])
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
    assert (b"the session ended 1 s ago" in run.body) == (path == "/events")
    assert (b"closed: the session is over" in run.body) == (path == "/right")
    assert drive(wrong.app, path).status == 401
