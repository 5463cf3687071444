"""docs/pitfalls/events.md: orders are missing, and the client saw no error."""

import json
from collections.abc import AsyncIterator

import pytest

from recipes.pitfalls.mid_stream_errors import failure_looks_complete
from recipes.pitfalls.mid_stream_errors.failure_looks_complete import app
from tests.kit.asgi import drive


@pytest.mark.parametrize(
    ("path", "right"), [("/orders", False), ("/told-orders", True)]
)
def test_only_the_last_line_tells_that_it_is_not_complete(
    path: str, right: bool, caplog: pytest.LogCaptureFixture
) -> None:
    run = drive(app, path)
    # Both end as a complete stream does.
    assert run.error is None
    assert "end" in run.journal
    lines = [json.loads(line) for line in run.body.splitlines()]
    assert lines[:3] == [{"id": 1}, {"id": 2}, {"id": 3}]
    assert lines[3:] == ([{"complete": False}] if right else [])
    assert caplog.messages == ["The orders are not complete"]


async def one_order() -> AsyncIterator[int]:
    """Read an order, and no failure."""
    yield 1


@pytest.mark.parametrize(
    ("path", "last"), [("/orders", []), ("/told-orders", [{"complete": True}])]
)
def test_without_a_failure_the_last_line_says_so(
    path: str, last: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failure_looks_complete, "read_orders", one_order)
    lines = [json.loads(line) for line in drive(app, path).body.splitlines()]
    assert lines == [{"id": 1}, *last]
