"""docs/pitfalls/tokens.md: newlines are missing in streamed LLM output."""

import json

import pytest
from starlette.types import ASGIApp

from cookbook.llm import scripted
from recipes import llm_openai
from recipes.pitfalls.llm_openai import token_as_raw_data as wrong
from tests.kit import sse
from tests.kit.asgi import drive

VERSIONS = [(wrong.app, False), (llm_openai.app, True)]
every_version = pytest.mark.parametrize(
    ("app", "right"), VERSIONS, ids=["wrong", "right"]
)


def ask(app: ASGIApp, scenario: str, patch: pytest.MonkeyPatch) -> list[sse.Event]:
    """Give the events; the recipe takes the model from its environment."""
    with scripted.running() as provider:
        for name, value in {**provider.env, "OPENAI_MODEL": scenario}.items():
            patch.setenv(name, value)
        return sse.parse(drive(app, f"/answer?prompt=x&model={scenario}").chunks).events


def text(events: list[sse.Event], right: bool) -> str:
    """Put the answer together again."""
    if right:
        tokens = [json.loads(e.data) for e in events if e.event == "token"]
        return "".join(token["text"] for token in tokens)
    return "".join(event.data for event in events if event.data != "[DONE]")


@every_version
def test_only_as_json_do_line_ends_survive(
    app: ASGIApp, right: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = "Milk\nsugar\n\n\rhoney\r\n\u2028\u0085."
    found = text(ask(app, "newlines", monkeypatch), right)
    assert found == (answer if right else "Milksugarhoney\u2028\u0085.")


@every_version
def test_only_as_json_is_a_token_no_event_of_its_own(
    app: ASGIApp, right: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = ask(app, "framing", monkeypatch)
    forged = [event.data for event in events if event.event == "admin"]
    assert forged == ([] if right else ['{"total": 0}'])
