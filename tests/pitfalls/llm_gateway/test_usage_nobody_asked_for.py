"""docs/pitfalls/tokens.md: IndexError in every client behind my gateway."""

import json

import pytest
from starlette.types import ASGIApp

from recipes import llm_gateway
from recipes.pitfalls.llm_gateway import usage_nobody_asked_for as wrong
from tests.kit import sse
from tests.kit.asgi import drive

PATH = "/v1/chat/completions"


pytestmark = pytest.mark.usefixtures("provider")


@pytest.fixture(autouse=True)
def _models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the gateway know the scenario."""
    monkeypatch.setenv("GATEWAY_MODELS", "ok=ok")


def choices(app: ASGIApp) -> list[int]:
    """Ask for a stream; tell how many choices each chunk has."""
    body = json.dumps({"model": "ok", "stream": True, "messages": []}).encode()
    headers = {"content-type": "application/json", "authorization": "Bearer not-needed"}
    run = drive(app, PATH, method="POST", headers=headers, body=body)
    *chunks, done = (event.data for event in sse.parse([run.body]).events)
    assert done == "[DONE]"
    return [len(json.loads(chunk)["choices"]) for chunk in chunks]


def test_wrong_the_last_chunk_has_no_choice() -> None:
    assert choices(wrong.app) == [1] * 10 + [0]


def test_right_the_recipe_keeps_it_for_itself() -> None:
    assert choices(llm_gateway.app) == [1] * 10
