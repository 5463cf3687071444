"""docs/pitfalls/tokens.md: an answer is missing when its reader has left."""

import json

from recipes import llm_collect
from recipes.pitfalls.llm_collect import saved_after_the_loop as wrong
from tests.kit.asgi import drive

ASK = "/answer?prompt=x&model=gated"


def kept() -> list[dict[str, object]]:
    """Give what the recipe has kept."""
    found: list[dict[str, object]] = json.loads(drive(llm_collect.app, "/answers").body)
    return found


def test_wrong_a_client_that_leaves_takes_the_answer_with_it() -> None:
    wrong.kept.clear()
    run = drive(wrong.app, ASK, disconnect_at=2)
    assert run.body == b"Tea is"
    assert wrong.kept == []


def test_nobody_notices_as_long_as_clients_stay() -> None:
    wrong.kept.clear()
    drive(wrong.app, "/answer?prompt=x&model=ok")
    assert wrong.kept == ["Tea is hot because the water was."]
    assert json.loads(drive(wrong.app, "/answers").body) == wrong.kept


def test_right_the_recipe_keeps_what_there_was() -> None:
    drive(llm_collect.app, ASK, disconnect_at=4)  # the start, and all three tokens
    (answer,) = kept()
    assert answer["status"] == "cancelled"
    assert answer["text"] == "Tea is hot"
