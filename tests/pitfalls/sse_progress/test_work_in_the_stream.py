"""docs/pitfalls/events.md: The import stops when the user closes the page."""

import pytest
from fastapi.testclient import TestClient

from recipes.pitfalls.sse_progress import work_in_the_stream
from recipes.pitfalls.sse_progress.work_in_the_stream import app
from recipes.sse_progress import Job, Jobs, Progress
from recipes.sse_progress import app as right
from tests.kit.asgi import drive


@pytest.fixture(autouse=True)
def outcomes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Begin each test without an outcome."""
    found: list[str] = []
    monkeypatch.setattr(work_in_the_stream, "outcomes", found)
    return found


def test_a_client_that_leaves_stops_the_import(outcomes: list[str]) -> None:
    run = drive(app, "/import", disconnect_at=2)
    assert b'{"percent":20}' in run.chunks[-1]
    assert outcomes == ["stopped in the middle"]


def test_a_client_that_stays_sees_it_complete(
    outcomes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_in_the_stream, "range", lambda *_: [10], raising=False)
    assert len(drive(app, "/import").chunks) == 1
    assert outcomes == ["completed"]


def test_in_the_recipe_the_job_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job()
    monkeypatch.setattr(Jobs, "find", lambda *_: job)
    drive(right, "/jobs/x/events", disconnect_at=1)
    assert job.news == Progress(rows=0, percent=0)


def test_the_program_tells_how_the_imports_ended(outcomes: list[str]) -> None:
    outcomes.append("completed")
    assert TestClient(app).get("/outcomes").json() == ["completed"]
