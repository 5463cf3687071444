"""docs/pitfalls/events.md: all clients stop receiving when one of them is slow."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from types import SimpleNamespace

import pytest

from recipes.pitfalls.sse_broadcast import one_slow_listener_stops_all as wrong
from recipes.sse_broadcast import Feed


async def read(events: AsyncIterator[bytes], got: list[bytes]) -> None:
    """Read as fast as one can."""
    async for event in events:
        got += [event]


async def tell_many() -> None:
    """Tell a thousand events, or as many as can be told."""
    async with asyncio.timeout(0.2):
        for _ in range(1000):
            await wrong.tell(b"more")
            await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def _anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody have listened, as each test has an event loop of its own."""
    monkeypatch.setattr(wrong, "someone_listens", asyncio.Event())


async def close(events: AsyncIterator[bytes]) -> None:
    """Close a generator."""
    assert isinstance(events, AsyncGenerator)
    await events.aclose()


def test_one_that_reads_gets_no_more_than_one_that_does_not() -> None:
    async def test() -> None:
        stalled = wrong.listen()
        waiting = asyncio.ensure_future(anext(stalled))
        got: list[bytes] = []
        reading = asyncio.create_task(read(wrong.listen(), got))
        await asyncio.sleep(0)
        await wrong.tell(b"first")
        assert await waiting == b"first"
        # It stops reading here: its queue takes a hundred more, and that is all.
        with pytest.raises(TimeoutError):
            await tell_many()
        assert len(got) in (101, 102)
        reading.cancel()
        await close(stalled)
        await asyncio.wait({reading})
        assert not wrong.listeners

    asyncio.run(test())


def test_all_is_told_while_everybody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        got: list[bytes] = []
        reading = asyncio.create_task(read(wrong.listen(), got))
        assert await wrong.burst() == "All 20,000 events were told.\n"
        reading.cancel()
        await asyncio.wait({reading})

    monkeypatch.setattr(wrong, "EVENT", b"data: {}\n\n")
    asyncio.run(test())


def test_the_feed_waits_for_nobody() -> None:
    async def test() -> None:
        feed = Feed()
        stalled = feed.events(feed.end)
        await anext(stalled)
        got: list[bytes] = []
        reading = asyncio.create_task(read(feed.events(feed.end), got))
        for _ in range(1000):
            feed.add(b"more")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert got.count(b"more") == 1000
        reading.cancel()
        await asyncio.wait({reading})

    asyncio.run(test())


def test_the_program_says_which_event_is_stuck(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        stalled = wrong.listen()
        waiting = asyncio.ensure_future(anext(stalled))
        await asyncio.sleep(0)
        answer = await wrong.burst()
        # One was taken, and a hundred wait in the queue.
        assert answer == "Nobody hears anything any more: event 101 is stuck.\n"
        assert await waiting == wrong.EVENT
        await close(stalled)
        response = await wrong.events()
        assert response.media_type == "text/event-stream"

    soon = SimpleNamespace(timeout=lambda _: asyncio.timeout(0.01), Queue=asyncio.Queue)
    monkeypatch.setattr(wrong, "asyncio", soon)
    asyncio.run(test())
