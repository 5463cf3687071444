"""docs/pitfalls/tokens.md: APIStatusError with the status code 200."""

import json

import pytest
from starlette.types import ASGIApp

from cookbook.llm import scripted
from recipes import llm_anthropic
from recipes.pitfalls.llm_anthropic import overload_by_status as wrong
from tests.kit import sse
from tests.kit.asgi import drive


def ask(app: ASGIApp, model: str, patch: pytest.MonkeyPatch) -> list[bytes]:
    with scripted.running(pace=0) as provider:
        for name, value in {**provider.env, "ANTHROPIC_MODEL": model}.items():
            patch.setenv(name, value)
        # The SDK asks three times when it is refused, and waits in between.
        patch.setattr("anthropic._base_client.anyio.sleep", no_sleep)
        return drive(app, f"/answer?prompt=x&model={model}").chunks


async def no_sleep(_: float) -> None:
    """Wait for nothing."""


@pytest.mark.parametrize(
    ("model", "end"),
    [
        ("ok", "was."),
        ("overloaded", "\nThe model is busy: ask again later."),
        ("overloaded-midstream", "Tea is\nError 200: do not ask again."),
    ],
)
def test_wrong_an_overload_is_taken_for_an_error_of_the_client(
    model: str, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert b"".join(ask(wrong.app, model, monkeypatch)).decode().endswith(end)


def test_right_the_recipe_looks_at_the_type(monkeypatch: pytest.MonkeyPatch) -> None:
    chunks = ask(llm_anthropic.app, "overloaded-midstream", monkeypatch)
    failed = json.loads(sse.parse(chunks).events[-1].data)
    assert (failed["type"], failed["retryable"]) == ("overloaded", True)
