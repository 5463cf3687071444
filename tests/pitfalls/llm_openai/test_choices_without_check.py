"""docs/pitfalls/tokens.md: IndexError on the last chunk of a model's answer."""

import json

import pytest

from recipes import llm_openai
from recipes.pitfalls.llm_openai import choices_without_check as wrong
from tests.kit import sse
from tests.kit.asgi import drive

SAID = "Tea is hot because the water was."


pytestmark = pytest.mark.usefixtures("provider")


@pytest.fixture(autouse=True)
def _model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Choose the scenario."""
    monkeypatch.setenv("OPENAI_MODEL", "ok")


def test_wrong_the_answer_ends_with_none_and_an_index_error() -> None:
    run = drive(wrong.app, "/answer?prompt=x&model=ok")
    assert run.body.decode() == SAID + "None"
    assert isinstance(run.error, IndexError)
    assert "end" not in run.journal


def test_an_answer_without_its_last_chunk_hides_the_mistake() -> None:
    run = drive(wrong.app, "/answer?prompt=x&model=truncated")
    assert run.error is None


def test_right_the_recipe_takes_what_is_there() -> None:
    run = drive(llm_openai.app, "/answer?prompt=x")
    events = sse.parse(run.chunks).events
    tokens = [json.loads(e.data)["text"] for e in events if e.event == "token"]
    assert ("".join(tokens), events[-1].event) == (SAID, "done")
    assert json.loads(events[-1].data)["usage"]["completion_tokens"] == len(tokens)
