"""docs/pitfalls/around.md: an await between the check and the place lets many in."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest
from fastapi import HTTPException

from recipes.pitfalls.stream_limits import await_before_the_place as wrong
from tests.kit.asgi import drive

Take = Callable[[str], AsyncIterator[None]]


async def race(take: Take) -> list[object]:
    """Let four tabs ask at the same moment; give what each came to."""
    place = asynccontextmanager(take)
    all_here = asyncio.Event()

    async def one(tab: str) -> int:
        async with place(tab):
            await all_here.wait()
            return len(wrong.places)

    tasks = [asyncio.create_task(one(str(number))) for number in range(4)]
    for _ in range(100):
        await asyncio.sleep(0)
    all_here.set()
    return await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize(
    ("take", "let_in"), [(wrong.take_place, 4), (wrong.take_place_at_once, 1)]
)
def test_four_at_once_get_past_a_limit_of_one(
    take: Take, let_in: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def write_down(_: str) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(wrong, "write_down", write_down)
    found = asyncio.run(race(take))
    refused = [each for each in found if isinstance(each, HTTPException)]
    assert len(found) - len(refused) == let_in
    assert {each.status_code for each in refused} <= {429}
    assert wrong.places == []


@pytest.mark.parametrize("path", ["/events", "/right"])
def test_the_program_tells_how_many(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def write_down(_: str) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(wrong, "write_down", write_down)
    run = drive(wrong.app, f"{path}?tab=1", disconnect_at=1)
    assert run.chunks == [b'data: "places that are taken: 1"\n\n']
    assert wrong.places == []


@pytest.mark.parametrize("path", ["/events", "/right"])
def test_one_by_one_both_refuse_the_second(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wrong, "places", ["1"])
    assert drive(wrong.app, f"{path}?tab=2").status == 429


def test_it_tells_ten_times(monkeypatch: pytest.MonkeyPatch) -> None:
    async def sleep(_: float) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(wrong, "asyncio", SimpleNamespace(sleep=sleep))
    assert drive(wrong.app, "/right?tab=1").body.count(b"taken: 1") == 10


def test_writing_down_takes_a_while() -> None:
    asyncio.run(wrong.write_down("1"))
    assert wrong.rows.pop() == "1"
