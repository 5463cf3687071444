"""docs/pitfalls/tokens.md: one question causes nine requests to the provider."""

import pytest
import stamina

from cookbook.llm import scripted
from recipes.pitfalls.llm_errors import retries_multiply as wrong
from tests.kit.asgi import drive
from tests.kit.llm_errors import asked, environment


async def no_pause(_: float) -> None:
    """Take the place of a sleep."""


@pytest.mark.parametrize("right", [False, True])
def test_one_question_costs_nine_requests(
    provider: scripted.Provider, monkeypatch: pytest.MonkeyPatch, right: bool
) -> None:
    provider.reset()
    if right:
        assert asked(environment(provider, openai="server-error")).status == 502
    else:
        for name, value in provider.env.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("openai._base_client.anyio.sleep", no_pause)
        with stamina.set_testing(True, attempts=3):
            run = drive(wrong.app, "/answer?model=server-error")
        assert run.body == b'{"requests":9}'
    assert len(provider.requests()) == (3 if right else 9)
