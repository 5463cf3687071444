"""docs/pitfalls/tokens.md: after a reload it is another answer, paid for again."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from cookbook.llm import scripted
from recipes import llm_durable
from recipes.pitfalls.llm_durable import written_in_the_request as wrong


def test_each_reader_makes_the_model_write_again() -> None:
    with TestClient(wrong.app) as client:
        first, second = (client.get("/events").text for _ in range(2))
    assert first.partition("\n")[0] != second.partition("\n")[0]


def test_the_recipe_asks_the_model_once(
    provider: scripted.Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = {"DATABASE_URL": f"sqlite:///{tmp_path}/answers.sqlite"}
    for name, value in (provider.env | database).items():
        monkeypatch.setenv(name, value)
    with TestClient(llm_durable.app) as client:
        headers = {"Idempotency-Key": "tea"}
        client.post("/answers", params={"prompt": "Why?"}, headers=headers)
        first, second = (client.get("/answers/tea/events").text for _ in range(2))
    assert first.partition("event:")[2] == second.partition("event:")[2]
    assert len(provider.requests()) == 1
