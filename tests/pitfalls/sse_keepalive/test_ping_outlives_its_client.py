"""docs/pitfalls/events.md: tasks left behind by SSE clients."""

import asyncio

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.types import Receive, Scope, Send

from recipes import sse_keepalive
from recipes.pitfalls.sse_keepalive import ping_outlives_its_client as wrong
from tests.kit.asgi import drive, note

VERSIONS = [
    (wrong.app, "/events", False),
    (sse_keepalive.app, "/by-hand?ping=0.1&quiet=3600", True),
]


@pytest.fixture(autouse=True)
def no_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin each test without a task."""
    monkeypatch.setattr(wrong, "tasks", set())


@pytest.mark.parametrize("stalled", [False, True])
@pytest.mark.parametrize(("app", "path", "right"), VERSIONS)
def test_tasks_are_left_behind_by_a_client_that_leaves(
    app: FastAPI, path: str, right: bool, stalled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def counting(scope: Scope, receive: Receive, send: Send) -> None:
        before = asyncio.all_tasks()
        await app(scope, receive, send)
        if scope["type"] == "http":
            # The kit's own tasks have been there before, or wait for the client.
            left = {task for task in asyncio.all_tasks() - before if not task.done()}
            ours = [task for task in left if "act_at_rest" not in repr(task)]
            note(f"{len(ours)} left")

    monkeypatch.setattr(wrong, "PING", 0.1)
    stall = 2 if stalled else None
    run = drive(counting, path, stall_at=stall, disconnect_at=2)
    assert f"{0 if right else 2} left" in run.journal


def test_the_program_counts_the_tasks_that_run() -> None:
    assert TestClient(wrong.app).get("/tasks").json() == {"running": 0}
