"""docs/pitfalls/tokens.md: the model goes on writing after the client has left."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from starlette.types import ASGIApp

from cookbook.llm import scripted
from recipes import llm_openai
from recipes.pitfalls.llm_openai import stream_never_closed as wrong
from tests.kit.asgi import Run, drive, note

# Twenty events come in one chunk: who reads them stands at a `yield`, not an `await`.
AT_ONCE = """
[at-once]
about = "Nineteen tokens at once, and more only when they are asked for"
tokens = ["Tea "]
repeat = 1000
gate = true
join = 20
"""

every_version = pytest.mark.parametrize(
    ("app", "right"),
    [(wrong.app, False), (llm_openai.app, True)],
    ids=["wrong", "right"],
)


@pytest.fixture
def provider(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[scripted.Provider]:
    """Run a provider, and note when its response is closed."""
    close = httpx2.Response.aclose

    async def noted(response: httpx2.Response) -> None:
        note("closed")
        await close(response)

    monkeypatch.setattr(httpx2.Response, "aclose", noted)
    scenarios = tmp_path / "scenarios.toml"
    scenarios.write_text(scripted.SCENARIOS.read_text("utf-8") + AT_ONCE, "utf-8")
    with scripted.running(scenarios, pace=0) as running:
        for name, value in running.env.items():
            monkeypatch.setenv(name, value)
        yield running


def ask(app: ASGIApp, model: str, patch: pytest.MonkeyPatch, at: int | None) -> Run:
    """Ask once; the client stalls and leaves at a chunk, or reads to the end."""
    patch.setenv("OPENAI_MODEL", model)
    target = f"/answer?prompt=x&model={model}"
    return drive(app, target, stall_at=at, disconnect_at=at)


@every_version
def test_only_a_dependency_closes_it_when_a_slow_client_leaves(
    app: ASGIApp,
    right: bool,
    provider: scripted.Provider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provider.go(19)
    run = ask(app, "at-once", monkeypatch, at=3)
    assert ("closed" in run.before(run.journal[-1])) == right


@every_version
@pytest.mark.usefixtures("provider")
def test_it_goes_unnoticed_as_long_as_clients_stay(
    app: ASGIApp, right: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ask(app, "ok", monkeypatch, at=None)
    assert "closed" in run.before("returned")
    assert (b"event: done" in run.body) == right
