"""docs/pitfalls/events.md: memory grows behind a client that does not read."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

import pytest

from recipes.pitfalls.sse_broadcast import unbounded_queue as wrong
from recipes.sse_broadcast import LATEST, Feed


@pytest.fixture(autouse=True)
def _anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody have listened, as each test has an event loop of its own."""
    monkeypatch.setattr(wrong, "someone_listens", asyncio.Event())


async def close(events: AsyncIterator[bytes]) -> None:
    """Close a generator."""
    assert isinstance(events, AsyncGenerator)
    await events.aclose()


def test_what_a_listener_does_not_read_is_kept_without_a_limit() -> None:
    async def test() -> None:
        stalled = wrong.listen()
        waiting = asyncio.ensure_future(anext(stalled))
        await asyncio.sleep(0)
        wrong.tell(b"first")
        assert await waiting == b"first"
        answer = await wrong.burst()
        assert answer == "More than 10,000 events wait for one listener.\n"
        (queue,) = wrong.listeners
        assert queue.qsize() == 20_000
        await close(stalled)
        assert not wrong.listeners

    asyncio.run(test())


def test_a_listener_that_reads_hides_it() -> None:
    async def test() -> None:
        async def read() -> None:
            async for _ in wrong.listen():
                pass

        reading = asyncio.create_task(read())
        answer = await wrong.burst()
        assert answer in {
            f"{n} events wait for the slowest listener.\n" for n in (0, 1)
        }
        reading.cancel()
        await asyncio.wait({reading})

    asyncio.run(test())


def test_the_feed_keeps_a_hundred_whoever_reads() -> None:
    async def test() -> None:
        feed = Feed()
        stalled = feed.events(feed.end)
        await anext(stalled)
        for _ in range(20_000):
            feed.add(wrong.EVENT)
        assert len(feed.latest) == LATEST == 100
        assert await anext(stalled) == b'event: missed\ndata: {"events":19900}\n\n'

    asyncio.run(test())


def test_it_is_sent_as_a_stream_of_events() -> None:
    assert asyncio.run(wrong.events()).media_type == "text/event-stream"
