"""docs/pitfalls/events.md: The page says completed, but rows are missing."""

import pytest
from fastapi.testclient import TestClient

from recipes.pitfalls.sse_progress import failure_completes
from recipes.pitfalls.sse_progress.failure_completes import app
from tests.kit.sse import parse

FAILED = '{"line": 3, "reason": "quantity: It must be a number"}'
ROUTES = [
    ("/events", ("completed", '{"rows": 2}')),
    ("/honest-events", ("failed", FAILED)),
]


@pytest.mark.parametrize(("path", "end"), ROUTES)
def test_an_import_that_fails_ends_with(path: str, end: tuple[str, str]) -> None:
    events = parse([TestClient(app).get(path).content]).events
    assert [event.event for event in events[:-1]] == ["progress", "progress"]
    assert (events[-1].event, events[-1].data) == end


@pytest.mark.parametrize("path", ["/events", "/honest-events"])
def test_an_import_that_succeeds_ends_the_same_way_in_both(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failure_completes, "import_orders", lambda: iter([2, 1]))
    events = parse([TestClient(app).get(path).content]).events
    assert (events[-1].event, events[-1].data) == ("completed", '{"rows": 2}')
