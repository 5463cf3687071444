"""docs/pitfalls/tokens.md: 429 Too Many Requests although no stream is open."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI

from cookbook.llm import scripted
from recipes import llm_chat
from recipes.pitfalls.llm_chat import slot_in_generator as wrong
from tests.kit.asgi import Run, drive

BODY = json.dumps({"messages": [{"role": "user", "content": "Hi"}]}).encode()
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def provider() -> Iterator[scripted.Provider]:
    """Start a provider."""
    with scripted.running(pace=0) as running:
        yield running


@pytest.fixture(autouse=True)
def found(provider: scripted.Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the SDK find the provider."""
    for name, value in provider.env.items():
        monkeypatch.setenv(name, value)


def ask(app: FastAPI, model: str) -> Run:
    """Ask once."""
    path = f"/chat/stream?model={model}"
    return drive(app, path, method="POST", headers=JSON, body=BODY)


@pytest.mark.parametrize("right", [False, True])
def test_a_question_that_the_provider_refused_keeps_no_place(
    right: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    module: Any = llm_chat if right else wrong
    monkeypatch.setattr(module, "open_streams", [])
    monkeypatch.setenv("OPENAI_MODEL", "unauthorized")
    refused = [ask(module.app, "unauthorized").status for _ in range(3)]
    assert refused == [503 if right else 502] * 3
    monkeypatch.setenv("OPENAI_MODEL", "ok")
    run = ask(module.app, "ok")
    assert run.status == (200 if right else 429)
    assert len(module.open_streams) == (0 if right else 3)


def test_an_answer_that_begins_hides_the_mistake(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wrong, "open_streams", [])
    assert ask(wrong.app, "ok").body == b"Tea is hot."
    assert wrong.open_streams == []
