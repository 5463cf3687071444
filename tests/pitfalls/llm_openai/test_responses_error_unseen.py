"""docs/pitfalls/tokens.md: half an answer of the Responses API, and no error."""

import pytest
from starlette.types import ASGIApp

from cookbook.llm import scripted
from recipes import llm_openai
from recipes.pitfalls.llm_openai import responses_error_unseen as wrong
from tests.kit import sse
from tests.kit.asgi import Run, drive


def ask(app: ASGIApp, path: str, model: str, patch: pytest.MonkeyPatch) -> Run:
    with scripted.running(pace=0) as provider:
        for name, value in {**provider.env, "OPENAI_MODEL": model}.items():
            patch.setenv(name, value)
        return drive(app, f"{path}?prompt=x&model={model}")


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("ok", "Tea is hot because the water was. [complete]"),
        ("overloaded-midstream", "Tea is [complete]"),
        ("truncated", "Tea is [complete]"),
        ("reset", " [broken off]"),
    ],
)
def test_wrong_an_error_event_looks_like_the_end(
    model: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = ask(wrong.app, "/answer", model, monkeypatch).body.decode()
    # A reset may overtake what was sent before it.
    assert body == said or (model == "reset" and body.endswith(said))


@pytest.mark.parametrize("model", ["overloaded-midstream", "truncated"])
def test_right_the_recipe_wants_to_see_that_it_is_complete(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ask(llm_openai.app, "/responses", model, monkeypatch)
    assert sse.parse(run.chunks).events[-1].event == "failed"
