"""docs/pitfalls/tokens.md: the text of an error is shown as part of the answer."""

import pytest

from recipes import llm_text
from recipes.pitfalls.llm_text import error_as_text as wrong
from tests.kit.asgi import Run, drive

WORDS = "[Error: The server had an error while it was answering.]"


pytestmark = pytest.mark.usefixtures("provider")


def ask(right: bool, model: str, patch: pytest.MonkeyPatch) -> Run:
    """Ask one of the two; the recipe takes the model from its environment."""
    patch.setenv("OPENAI_MODEL", model)
    app = llm_text.app if right else wrong.app
    return drive(app, f"/answer?prompt=x&model={model}")


@pytest.mark.parametrize("right", [False, True])
def test_an_answer_that_is_complete_is_the_same(
    right: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ask(right, "ok", monkeypatch)
    assert run.body == b"Tea is hot because the water was."
    assert run.journal[-2:] == ["end", "returned"]


def test_wrong_the_answer_says_the_error_and_ends_as_if_it_were_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = ask(False, "overloaded-midstream", monkeypatch)
    assert (run.status, run.body.decode()) == (200, "Tea is" + WORDS)
    assert run.journal[-2:] == ["end", "returned"]
    # Even what the provider refuses has a status of 200.
    run = ask(False, "unauthorized", monkeypatch)
    assert run.status == 200
    assert b"The key is wrong" in run.body


def test_right_the_answer_breaks_off_and_says_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = ask(True, "overloaded-midstream", monkeypatch)
    assert (run.status, run.body) == (200, b"Tea is")
    assert run.journal[-1] == "raised BrokenOffError"
    assert ask(True, "unauthorized", monkeypatch).status == 502
