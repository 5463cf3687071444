"""docs/pitfalls/events.md: With two tabs open, the progress bar jumps or hangs."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress

import pytest
from fastapi.testclient import TestClient

from recipes.pitfalls.sse_progress import queue_for_the_watchers as wrong
from recipes.sse_progress import Completed, Job, Progress
from tests.kit.sse import parse


async def from_the_queue() -> list[list[int]]:
    """Let two clients watch the wrong version, then a third who comes late."""
    wrong.queue = asyncio.Queue()

    async def watch() -> AsyncIterator[int]:
        async for event in wrong.events():
            yield event.data["percent"]

    def tell(percent: int) -> None:
        wrong.queue.put_nowait(percent)

    return await three_watchers(watch, tell)


async def from_the_job() -> list[list[int]]:
    """Let the same three watch a job of the recipe."""
    job = Job()

    async def watch() -> AsyncIterator[int]:
        async for news in job.watch():
            yield news.percent if isinstance(news, Progress) else 100

    def tell(percent: int) -> None:
        news = (
            Completed(rows=4) if percent == 100 else Progress(rows=1, percent=percent)
        )
        job.tell(news)

    return await three_watchers(watch, tell)


async def three_watchers(
    watch: Callable[[], AsyncIterator[int]], tell: Callable[[int], None]
) -> list[list[int]]:
    """Give what each of them sees; what hangs is cancelled when nothing moves."""
    seen: list[list[int]] = [[], [], []]

    async def follow(number: int) -> None:
        async for percent in watch():
            seen[number].append(percent)

    async def rest() -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    tasks = [asyncio.ensure_future(follow(number)) for number in (0, 1)]
    await rest()
    for percent in (25, 50, 75, 100):
        tell(percent)
        await rest()
    tasks.append(asyncio.ensure_future(follow(2)))
    await rest()
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    return seen


See = Callable[[], Coroutine[object, object, list[list[int]]]]


@pytest.mark.parametrize(
    ("see", "ends"),
    [(from_the_queue, [False, True, False]), (from_the_job, [True] * 3)],
)
def test_every_watcher_sees_the_end(see: See, ends: list[bool]) -> None:
    seen = asyncio.run(see())
    assert [100 in percents for percents in seen] == ends


def test_one_watcher_alone_sees_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wrong, "queue", asyncio.Queue())
    with TestClient(wrong.app) as client:
        events = parse([client.get("/events").content]).events
    told = [f'{{"percent": {percent}}}' for percent in (25, 50, 75, 100)]
    assert [event.data for event in events] == told
