"""docs/pitfalls/events.md: request.is_disconnected() is always False."""

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient
from starlette.types import ASGIApp

from recipes import sse_disconnect
from recipes.pitfalls.sse_disconnect import polling_behind_middleware as wrong
from tests.kit import asgi
from tests.kit.asgi import drive, note


class Noted(asyncio.Queue[str]):
    """Outcomes that are noted."""

    async def put(self, item: str) -> None:
        """Add an outcome."""
        note(item)
        await super().put(item)


async def pause(_: float) -> None:
    """Make it short, and note it."""
    note("pause")
    await asyncio.sleep(0.02)


def after_two_pauses() -> None:
    """Wait in a thread until the report has begun."""
    deadline = time.monotonic() + 5
    while asgi._journal.count("pause") < 2:
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize(("app", "right"), [(wrong.app, False), (None, True)])
def test_behind_a_middleware_the_report_is_made_for_nobody(
    app: ASGIApp | None, right: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = SimpleNamespace(
        sleep=pause, Queue=Noted, CancelledError=asyncio.CancelledError
    )
    monkeypatch.setattr(wrong, "asyncio", fake)
    monkeypatch.setattr(sse_disconnect, "asyncio", fake)
    monkeypatch.setattr(sse_disconnect, "BOOK", tmp_path / "book.txt")
    run = drive(app or sse_disconnect.app, "/report", leave_after=after_two_pauses)
    if right:
        assert "told by is_disconnected" in (tmp_path / "book.txt").read_text()
    assert (run.journal.count("pause") < 10) == right
    assert ("10 days for nobody" in run.journal) == (not right)


def test_the_same_report_without_its_middleware_stops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wrong, "asyncio", SimpleNamespace(sleep=pause, Queue=Noted))
    monkeypatch.setattr(wrong.app, "user_middleware", [])
    monkeypatch.setattr(wrong.app, "middleware_stack", None)
    run = drive(wrong.app, "/report", leave_after=after_two_pauses)
    assert "stopped after 2 days" in run.journal


def test_the_middleware_says_how_long_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wrong, "asyncio", SimpleNamespace(sleep=pause, Queue=Noted))
    assert float(drive(wrong.app, "/report").headers["x-seconds"]) > 0


def test_the_outcome_is_told_to_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wrong, "asyncio", SimpleNamespace(sleep=pause, Queue=Noted))
    with TestClient(wrong.app) as client:
        client.get("/report")
        assert client.get("/outcome").json() == "10 days for nobody"
