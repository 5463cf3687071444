"""docs/pitfalls/tokens.md: my gateway answers 200 when the provider refuses."""

import json

import pytest
from starlette.types import ASGIApp

from recipes import llm_gateway
from recipes.pitfalls.llm_gateway import status_before_the_provider as wrong
from tests.kit.asgi import Run, drive

PATH = "/v1/chat/completions"


pytestmark = pytest.mark.usefixtures("provider")


@pytest.fixture(autouse=True)
def _models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the gateway know the scenarios."""
    monkeypatch.setenv("GATEWAY_MODELS", "rate-limited=rate-limited ok=ok")


def ask(app: ASGIApp, model: str) -> Run:
    """Ask for a stream."""
    body = {"model": model, "stream": True, "messages": []}
    headers = {"content-type": "application/json", "authorization": "Bearer not-needed"}
    data = json.dumps(body).encode()
    return drive(app, PATH, method="POST", headers=headers, body=data)


def test_wrong_a_refusal_is_a_200() -> None:
    run = ask(wrong.app, "rate-limited")
    assert run.status == 200
    assert json.loads(run.body)["error"]["code"] == "rate_limit_exceeded"


def test_right_a_refusal_has_its_status_and_says_when_to_come_back() -> None:
    run = ask(llm_gateway.app, "rate-limited")
    assert (run.status, run.headers["retry-after"]) == (429, "7")


def test_an_answer_that_works_hides_the_mistake() -> None:
    assert ask(wrong.app, "ok").body.endswith(b"data: [DONE]\n\n")
