"""docs/pitfalls.md: the model goes on writing after the client has left."""

import httpx2
import pytest
from starlette.types import ASGIApp

from cookbook.llm import scripted
from recipes import llm_openai
from recipes.pitfalls import stream_never_closed as wrong
from tests.kit.asgi import drive, note


@pytest.mark.parametrize(
    ("app", "right"),
    [(wrong.app, False), (llm_openai.app, True)],
    ids=["wrong", "right"],
)
def test_only_a_dependency_closes_it_when_a_slow_client_leaves(
    app: ASGIApp, right: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = httpx2.Response.aclose

    async def noted(response: httpx2.Response) -> None:
        note("closed")
        await close(response)

    monkeypatch.setattr(httpx2.Response, "aclose", noted)
    with scripted.running() as provider:
        for name, value in {**provider.env, "OPENAI_MODEL": "gated"}.items():
            monkeypatch.setenv(name, value)
        provider.go(20)
        # There are tokens enough: it stands at a `yield`, not at an `await`.
        run = drive(app, "/answer?prompt=x&model=gated", stall_at=3, disconnect_at=3)
    assert ("closed" in run.before(run.journal[-1])) == right
