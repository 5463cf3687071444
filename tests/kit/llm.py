"""Play scenarios to a recipe that asks a language model, and read what it sends.

with provider_with(AT_ONCE, pace=0) as provider: serves a scenario of the test's own
run = Play(llm_openai.app, provider, monkeypatch)("ok")
assert texts(run) == said("ok")
"""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.types import ASGIApp, Message

from cookbook.llm import scripted
from tests.kit import sse
from tests.kit.asgi import Run, drive

ASK = "/answer?prompt=Why+is+tea+hot"
WORDS = ["Tea", " is", " hot", " because", " the", " water", " was", "."]
SCENARIOS = scripted.load()
# Twenty events come in one chunk: who reads them stands at a `yield`, not an `await`.
AT_ONCE = """
[at-once]
about = "Nineteen tokens at once, and more only when they are asked for"
tokens = ["Tea "]
repeat = 1000
gate = true
join = 20
"""
# A provider that is silent: even the head of its response takes an hour.
SILENT = """
[silent]
about = "Nothing at all, not even a status"
tokens = ["Tea"]
drip = 3600
"""


@contextmanager
def provider_with(more: str, pace: float = 1.0) -> Iterator[scripted.Provider]:
    """Serve the cookbook's scenarios and `more` of them, which is TOML.

    `pace` is a factor for all seconds in the scenarios: 0 leaves out every pause.
    """
    with TemporaryDirectory() as folder:
        file = Path(folder, "scenarios.toml")
        file.write_text(scripted.SCENARIOS.read_text("utf-8") + more, "utf-8")
        with scripted.running(file, pace=pace) as provider:
            yield provider


class Play:
    """Ask a recipe while the provider plays a scenario, which `variable` names."""

    def __init__(
        self,
        app: ASGIApp,
        provider: scripted.Provider,
        monkeypatch: pytest.MonkeyPatch,
        variable: str = "OPENAI_MODEL",
    ) -> None:
        assert provider.requests() == []
        self.app, self.monkeypatch, self.variable = app, monkeypatch, variable

    def __call__(
        self,
        scenario: str,
        path: str = ASK,
        *,
        stall_at: int | None = None,
        disconnect_at: int | None = None,
        cancel_at: int | None = None,
        leave_after: Callable[[], object] | None = None,
    ) -> Run:
        """Run one request for an answer."""
        self.monkeypatch.setenv(self.variable, scenario)
        return drive(
            self.app,
            path,
            stall_at=stall_at,
            disconnect_at=disconnect_at,
            cancel_at=cancel_at,
            leave_after=leave_after,
        )


def said(scenario: str) -> list[str]:
    """Say what the script has, read without the provider."""
    return [token.text for token in SCENARIOS[scenario].said()]


def events(run: Run) -> list[sse.Event]:
    """Read the events of an answer with the strict parser."""
    return sse.parse(run.chunks).events


def texts(run: Run) -> list[str]:
    """Give the texts of its events `token`."""
    return [json.loads(e.data)["text"] for e in events(run) if e.event == "token"]


def last(run: Run) -> tuple[str, dict[str, Any]]:
    """Give the last event, which must be the only one of its kind."""
    *before, end = events(run)
    assert not {"done", "failed"} & {event.event for event in before}
    return end.event, json.loads(end.data)


# Clients that leave, for a recipe that is asked without the driver


async def never() -> Message:
    """Give nothing: the client stays, or the provider is silent."""
    await asyncio.Event().wait()
    raise AssertionError


async def gone() -> Message:
    """Say that the client has left."""
    return {"type": "http.disconnect"}


def plain(app: FastAPI) -> FastAPI:
    """Give the app as it is."""
    return app


def behind_middleware(app: FastAPI) -> FastAPI:
    """Put the app below a middleware that wraps `receive`."""
    outer = FastAPI(lifespan=app.router.lifespan_context)
    outer.add_middleware(BaseHTTPMiddleware, dispatch=lambda r, call: call(r))
    outer.mount("", app)
    return outer
