"""docs/pitfalls/tokens.md: 'async_generator' object is not callable."""

import json
from collections.abc import AsyncIterator
from typing import Self

import pytest
from anthropic.resources.messages import AsyncMessages
from starlette.types import ASGIApp

from cookbook.llm import scripted
from recipes import llm_anthropic
from recipes.pitfalls.llm_anthropic import text_stream_called as wrong
from tests.kit import sse
from tests.kit.asgi import Run, drive


def ask(app: ASGIApp, patch: pytest.MonkeyPatch) -> Run:
    with scripted.running(pace=0) as provider:
        for name, value in {**provider.env, "ANTHROPIC_MODEL": "ok"}.items():
            patch.setenv(name, value)
        return drive(app, "/answer?prompt=x&model=ok")


def test_wrong_the_answer_breaks_off_before_its_first_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = ask(wrong.app, monkeypatch)
    assert isinstance(run.error, TypeError)
    assert str(run.error) == "'async_generator' object is not callable"
    assert (run.body, "end" in run.journal) == (b"", False)


class Imagined:
    """The stream of the SDK as the wrong code imagines it."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def text_stream(self) -> AsyncIterator[str]:
        """Give the tokens."""
        yield "Tea"


def test_it_would_work_if_text_stream_were_a_method(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(AsyncMessages, "stream", lambda *_, **__: Imagined())
    assert ask(wrong.app, monkeypatch).body == b"Tea"


def test_right_the_recipe_reads_the_events_themselves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events = sse.parse(ask(llm_anthropic.app, monkeypatch).chunks).events
    tokens = [json.loads(e.data)["text"] for e in events if e.event == "token"]
    assert "".join(tokens) == "Tea is hot because the water was."
