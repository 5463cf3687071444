"""docs/pitfalls/events.md: the last event before an exception never arrives."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from recipes.pitfalls.mid_stream_errors import raise_in_native_generator as pitfall
from tests.kit.asgi import drive
from tests.kit.sse import parse


@pytest.mark.parametrize(
    ("path", "right"), [("/events", False), ("/told-events", True)]
)
def test_an_event_that_was_made_is_lost(path: str, right: bool) -> None:
    run = drive(pitfall.app, path)
    data = [event.data for event in parse(run.chunks).events]
    orders = ['{"id": 1}', '{"id": 2}', '{"id": 3}']
    assert data == ([*orders, "{}"] if right else orders[:2])
    assert ("end" in run.journal) == right
    assert (run.error is None) == right


def test_nothing_is_lost_if_the_failure_comes_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = pitfall.orders

    async def with_a_pause() -> AsyncIterator[int]:
        try:
            async for number in given():
                yield number
        except ConnectionError:
            await asyncio.sleep(0.01)
            raise

    monkeypatch.setattr(pitfall, "orders", with_a_pause)
    run = drive(pitfall.app, "/events")
    assert [event.data for event in parse(run.chunks).events][-1] == '{"id": 3}'


async def one_order() -> AsyncIterator[int]:
    """Read an order, and no failure."""
    yield 1


def test_without_a_failure_the_last_event_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pitfall, "orders", one_order)
    for path, last in [("/events", "order"), ("/told-events", "done")]:
        assert parse(drive(pitfall.app, path).chunks).events[-1].event == last
