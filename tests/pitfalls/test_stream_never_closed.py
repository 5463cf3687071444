"""docs/pitfalls.md: the model goes on writing after the client has left."""

from collections.abc import Iterator

import httpx2
import pytest
from starlette.types import ASGIApp

from cookbook.llm import scripted
from recipes import llm_openai
from recipes.pitfalls import stream_never_closed as wrong
from tests.kit.asgi import Run, drive, note

every_version = pytest.mark.parametrize(
    ("app", "right"),
    [(wrong.app, False), (llm_openai.app, True)],
    ids=["wrong", "right"],
)


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[scripted.Provider]:
    """Run a provider, and note when its response is closed."""
    close = httpx2.Response.aclose

    async def noted(response: httpx2.Response) -> None:
        note("closed")
        await close(response)

    monkeypatch.setattr(httpx2.Response, "aclose", noted)
    with scripted.running(pace=0) as running:
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
    # There are tokens enough: the generator stands at a `yield`, not at an `await`.
    provider.go(20)
    run = ask(app, "gated", monkeypatch, at=3)
    assert ("closed" in run.before(run.journal[-1])) == right


@every_version
@pytest.mark.usefixtures("provider")
def test_it_goes_unnoticed_as_long_as_clients_stay(
    app: ASGIApp, right: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ask(app, "ok", monkeypatch, at=None)
    assert "closed" in run.before("returned")
    assert (b"event: done" in run.body) == right
