"""docs/pitfalls/events.md: orders are missing, and the client saw no error."""

import json

import pytest

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
