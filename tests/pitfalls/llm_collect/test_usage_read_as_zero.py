"""docs/pitfalls/tokens.md: cancelled answers are booked with 0 tokens."""

import json

from recipes import llm_collect
from recipes.pitfalls.llm_collect import usage_read_as_zero as wrong
from tests.kit.asgi import drive

ASK = "/answer?prompt=x&model=gated"


def kept() -> list[dict[str, object]]:
    """Give what the recipe has kept."""
    found: list[dict[str, object]] = json.loads(drive(llm_collect.app, "/answers").body)
    return found


def test_wrong_an_answer_that_was_stopped_is_booked_as_nothing() -> None:
    wrong.bill.clear()
    run = drive(wrong.app, ASK, disconnect_at=2)
    assert run.body == b"Tea is"
    assert wrong.bill == [{"completion_tokens": 0}]


def test_nobody_notices_as_long_as_clients_stay() -> None:
    wrong.bill.clear()
    drive(wrong.app, "/answer?prompt=x&model=ok")
    assert wrong.bill == [{"completion_tokens": 8}]
    assert json.loads(drive(wrong.app, "/answers").body) == wrong.bill


def test_right_the_recipe_estimates_and_says_so() -> None:
    drive(llm_collect.app, ASK, disconnect_at=4)  # the start, and all three tokens
    (answer,) = kept()
    assert answer["usage"] == {
        "prompt_tokens": 1,
        "completion_tokens": 3,
        "estimated": True,
        "cost": None,
    }
