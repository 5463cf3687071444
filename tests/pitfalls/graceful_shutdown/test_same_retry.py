"""docs/pitfalls/around.md: All clients reconnect at once after a deployment."""

import secrets

import pytest
from starlette.types import ASGIApp

from recipes import graceful_shutdown as recipe
from recipes.pitfalls.graceful_shutdown import same_retry as wrong
from tests.kit import sse
from tests.kit.asgi import drive

CLIENTS = 100


def waits(app: ASGIApp, path: str) -> set[int | None]:
    """Give the waits that so many clients are told."""
    return {sse.parse(drive(app, path).chunks).retry for _ in range(CLIENTS)}


def test_a_hundred_clients_are_told_the_same() -> None:
    assert waits(wrong.app, "/orders") == {1000}


def test_each_is_told_its_own() -> None:
    told = waits(wrong.app, "/right")
    assert len(told) > CLIENTS / 2
    assert all(wait is not None and 1000 <= wait <= 3000 for wait in told)


@pytest.mark.parametrize(("drawn", "wait"), [(0, 1000), (2000, 3000)])
def test_it_is_drawn_from_the_same_span_as_in_the_recipe(
    drawn: int, wait: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def draw(below: int) -> int:
        asked.append(below)
        return drawn

    monkeypatch.setattr(secrets, "randbelow", draw)
    assert waits(wrong.app, "/right") == {wait}
    assert recipe.soon() == wait
    assert set(asked) == {2001}
