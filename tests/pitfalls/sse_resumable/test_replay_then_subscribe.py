"""docs/pitfalls/events.md: Events are missing after an SSE client reconnects."""

import asyncio
from collections.abc import AsyncGenerator
from typing import cast

import pytest

from recipes.pitfalls.sse_resumable import replay_then_subscribe
from recipes.pitfalls.sse_resumable.replay_then_subscribe import feed, place_order
from recipes.sse_resumable import Log, read

pause = asyncio.sleep


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin with three orders, and without waits."""
    monkeypatch.setattr(replay_then_subscribe, "log", [1, 2, 3])
    monkeypatch.setattr(replay_then_subscribe, "sent", [])
    monkeypatch.setattr(asyncio, "sleep", lambda _: pause(0))


def test_an_order_that_comes_during_the_replay_is_never_sent() -> None:
    async def test() -> None:
        events = cast(AsyncGenerator[int, None], feed())
        assert [await anext(events), await anext(events)] == [1, 2]
        assert await place_order() == 4
        assert await anext(events) == 3
        live = asyncio.ensure_future(anext(events))
        await pause(0)
        assert await place_order() == 5
        assert await live == 5
        assert await replay_then_subscribe.missed() == [4]
        await events.aclose()
        assert replay_then_subscribe.listeners == set()

    asyncio.run(test())


def test_the_recipe_sends_it() -> None:
    async def test() -> None:
        log = Log()
        for order in "123":
            await log.append("order", order)
        events = read(log, "")
        data = [(await anext(events)).data, (await anext(events)).data]
        await log.append("order", "4")
        data.append((await anext(events)).data)
        live = asyncio.ensure_future(anext(events))
        await pause(0)
        data.append((await live).data)
        assert data == ["1", "2", "3", "4"]

    asyncio.run(test())
