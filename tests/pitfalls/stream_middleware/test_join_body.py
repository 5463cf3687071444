"""docs/pitfalls/around.md: Nothing arrives until the end since I log responses."""

import asyncio
import logging
from types import SimpleNamespace

import pytest
from starlette.types import ASGIApp

from recipes import stream_middleware as recipe
from recipes.pitfalls.stream_middleware import join_body as wrong
from recipes.stream_middleware import Order
from tests.kit.asgi import drive, note


async def pause(_: float) -> None:
    """Note that the next order is about to be made."""
    note("pause")
    await asyncio.sleep(0)


async def read_page(first: int, count: int) -> list[Order]:
    """Read a page, after a pause."""
    await pause(0)
    return [Order(id=first + number) for number in range(count)]


@pytest.mark.parametrize(
    ("app", "pauses"), [(wrong.app, 5), (recipe.app, 1)], ids=["wrong", "right"]
)
def test_the_first_chunk_comes_when_all_are_made(
    app: ASGIApp, pauses: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wrong, "asyncio", SimpleNamespace(sleep=pause))
    monkeypatch.setattr(recipe, "read_page", read_page)
    run = drive(app, "/orders")
    assert run.before("chunk 1").count("pause") == pauses


def test_after_a_second_and_a_half_three_orders_are_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]

    async def pause(seconds: float) -> None:
        clock[0] += seconds

    async def read() -> list[float]:
        return [clock[0] async for _ in wrong.rows()]

    monkeypatch.setattr(wrong, "asyncio", SimpleNamespace(sleep=pause))
    made = asyncio.run(read())
    assert [at for at in made if at < 1.5] == [0, 0.5, 1]


def test_both_know_the_size(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wrong, "asyncio", SimpleNamespace(sleep=pause))
    monkeypatch.setattr(wrong, "log", logging.getLogger("test.join_body"))
    with caplog.at_level("INFO"):
        assert drive(wrong.app, "/orders").body == b"".join(
            b'{"id": %d}\n' % number for number in range(1, 6)
        )
    assert "/orders: 50 bytes" in caplog.messages
