"""docs/pitfalls/tokens.md: an error message stands in the middle of the answer."""

import json

import pytest

from cookbook.llm import scripted
from recipes.pitfalls.llm_errors import error_as_token as wrong
from tests.kit import sse
from tests.kit.asgi import drive
from tests.kit.llm_errors import asked, environment


@pytest.mark.parametrize("right", [False, True])
def test_a_client_cannot_tell_the_error_from_a_token(
    provider: scripted.Provider, monkeypatch: pytest.MonkeyPatch, right: bool
) -> None:
    if right:
        run = asked(environment(provider, openai="overloaded-midstream"))
    else:
        for name, value in provider.env.items():
            monkeypatch.setenv(name, value)
        run = drive(wrong.app, "/answer?model=overloaded-midstream")
    *_, before, last = sse.parse(run.chunks).events
    assert (before.event != last.event) == right
    assert json.loads(last.data) != json.loads(before.data)


@pytest.mark.parametrize("right", [False, True])
def test_a_refusal_of_the_provider_is_a_200(
    provider: scripted.Provider, monkeypatch: pytest.MonkeyPatch, right: bool
) -> None:
    if right:
        run = asked(environment(provider, openai="unauthorized"))
    else:
        for name, value in provider.env.items():
            monkeypatch.setenv(name, value)
        run = drive(wrong.app, "/answer?model=unauthorized")
    assert run.status == (503 if right else 200)
