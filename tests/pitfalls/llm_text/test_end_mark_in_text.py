"""docs/pitfalls/tokens.md: the answer stops where the model writes my end mark."""

import pytest

from cookbook.llm import scripted
from recipes import llm_text
from recipes.pitfalls.llm_text import end_mark_in_text as wrong
from tests.kit.asgi import drive

MARK = "\n[DONE]"


pytestmark = pytest.mark.usefixtures("provider")


def said(scenario: str) -> str:
    """Give the whole text of a script."""
    return "".join(token.text for token in scripted.load()[scenario].said())


def test_wrong_a_client_stops_in_the_middle() -> None:
    body = drive(wrong.app, "/answer?prompt=x&model=framing").body.decode()
    assert body == said("framing") + MARK
    read, _, lost = body.partition(MARK.strip())
    assert read == "data: "
    assert len(lost) > len(read)


def test_wrong_nobody_notices_until_the_model_writes_it() -> None:
    body = drive(wrong.app, "/answer?prompt=x&model=ok").body.decode()
    assert body.partition(MARK)[0] == said("ok")


@pytest.mark.parametrize("scenario", ["framing", "ok"])
def test_right_the_end_of_the_body_is_the_end(
    scenario: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_MODEL", scenario)
    run = drive(llm_text.app, "/answer?prompt=x")
    assert run.body.decode() == said(scenario)
    assert run.journal[-2:] == ["end", "returned"]
