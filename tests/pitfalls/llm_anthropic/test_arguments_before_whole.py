"""docs/pitfalls/tokens.md: the tool runs with the wrong arguments."""

import json

import pytest

from recipes import llm_anthropic
from recipes.pitfalls.llm_anthropic import arguments_before_whole as wrong
from tests.kit import sse
from tests.kit.asgi import drive

MODEL = "tool-arguments"


pytestmark = pytest.mark.usefixtures("provider")


@pytest.fixture(autouse=True)
def _model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Choose the scenario."""
    monkeypatch.setenv("ANTHROPIC_MODEL", MODEL)


def test_wrong_another_order_is_looked_up_than_the_model_asked_for() -> None:
    run = drive(wrong.app, f"/order?prompt=x&model={MODEL}")
    assert json.loads(run.body) == {"order_id": 4}


def test_wrong_who_asks_for_no_tool_gets_a_404() -> None:
    assert drive(wrong.app, "/order?prompt=x&model=ok").status == 404


def test_right_the_recipe_parses_the_arguments_when_they_are_whole() -> None:
    events = sse.parse(drive(llm_anthropic.app, "/answer?prompt=x").chunks).events
    tools = [json.loads(event.data) for event in events if event.event == "tool"]
    assert tools[0]["arguments"]["order_id"] == 42
