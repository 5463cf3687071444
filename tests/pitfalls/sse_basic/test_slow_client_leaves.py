"""docs/pitfalls/events.md: BrokenResourceError when a client disconnects."""

import pytest
from fastapi.testclient import TestClient

from recipes.pitfalls.sse_basic import slow_client_leaves
from recipes.pitfalls.sse_basic.slow_client_leaves import app
from tests.kit.asgi import drive

ROUTES = [("/events", False), ("/quiet-events", True)]


@pytest.fixture(autouse=True)
def no_outcomes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin each test without an outcome."""
    monkeypatch.setattr(slow_client_leaves, "outcomes", [])


@pytest.mark.parametrize(("path", "right"), ROUTES)
def test_a_slow_client_that_leaves_rolls_the_transaction_back_and_is_logged(
    path: str, right: bool
) -> None:
    run = drive(app, path, stall_at=2, disconnect_at=2)
    outcome = "committed" if right else "rolled back"
    assert TestClient(app).get("/outcomes").json() == [outcome]
    # uvicorn logs whatever an application raises.
    assert run.journal[-1] == ("returned" if right else "raised ExceptionGroup")


@pytest.mark.parametrize(("path", "right"), ROUTES)
def test_a_client_that_reads_to_the_end_commits_it(
    path: str, right: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slow_client_leaves, "range", lambda _: "12", raising=False)
    run = drive(app, path)
    assert len(run.chunks) == 2
    assert slow_client_leaves.outcomes == ["committed"]
    assert right == ("quiet" in path)
