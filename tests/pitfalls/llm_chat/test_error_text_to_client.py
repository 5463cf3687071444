"""docs/pitfalls/tokens.md: my API tells the provider's answer, or a key."""

import json

import pytest
from fastapi import FastAPI

from cookbook.llm import scripted
from recipes import llm_chat
from recipes.pitfalls.llm_chat import error_text_to_client as wrong
from tests.kit.asgi import drive

BODY = json.dumps({"messages": [{"role": "user", "content": "Hi"}]}).encode()


@pytest.mark.parametrize(("app", "told"), [(wrong.app, True), (llm_chat.app, False)])
def test_the_words_of_the_provider_reach_the_client(
    app: FastAPI,
    told: bool,
    provider: scripted.Provider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {**provider.env, "OPENAI_MODEL": "unauthorized"}.items():
        monkeypatch.setenv(name, value)
    path = "/chat/stream?model=unauthorized"
    headers = {"content-type": "application/json"}
    run = drive(app, path, method="POST", headers=headers, body=BODY)
    assert (b"The key is wrong" in run.body) == told
