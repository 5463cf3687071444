"""docs/pitfalls/tokens.md: the row is missing although the code saves in `finally`."""

import json

from recipes import llm_collect
from recipes.pitfalls.llm_collect import save_without_shield as wrong
from tests.kit.asgi import drive

ASK = "/answer?prompt=x&model=gated"


def kept() -> list[dict[str, object]]:
    """Give what the recipe has kept."""
    found: list[dict[str, object]] = json.loads(drive(llm_collect.app, "/answers").body)
    return found


def test_wrong_the_save_in_the_clean_up_is_cancelled() -> None:
    wrong.kept.clear()
    run = drive(wrong.app, ASK, disconnect_at=2)
    assert run.body == b"Tea is"
    assert wrong.kept == []


def test_nobody_notices_as_long_as_clients_stay() -> None:
    wrong.kept.clear()
    drive(wrong.app, "/answer?prompt=x&model=ok")
    assert wrong.kept == ["Tea is hot because the water was."]
    assert json.loads(drive(wrong.app, "/answers").body) == wrong.kept


def test_right_the_recipe_saves_from_a_dependency_and_behind_a_shield() -> None:
    drive(llm_collect.app, ASK, disconnect_at=4)  # the start, and all three tokens
    (answer,) = kept()
    assert (answer["text"], answer["status"]) == ("Tea is hot", "cancelled")
