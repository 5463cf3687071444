"""docs/pitfalls/tokens.md: after a retry the beginning of the answer comes twice."""

import json

import pytest
import stamina

from cookbook.llm import scripted
from recipes.pitfalls.llm_errors import retry_in_mid_stream as wrong
from tests.kit import sse
from tests.kit.asgi import drive
from tests.kit.llm_errors import asked, environment


@pytest.mark.parametrize("right", [False, True])
def test_the_tokens_that_were_sent_are_sent_again(
    provider: scripted.Provider, monkeypatch: pytest.MonkeyPatch, right: bool
) -> None:
    provider.reset()
    if right:
        env = environment(provider, openai="overloaded-midstream")
        events = sse.parse(asked(env).chunks).events
        tokens = [json.loads(e.data)["text"] for e in events if e.event == "token"]
        text = "".join(tokens)
    else:
        for name, value in provider.env.items():
            monkeypatch.setenv(name, value)
        with stamina.set_testing(True, attempts=2):
            text = drive(wrong.app, "/answer?model=overloaded-midstream").body.decode()
    assert text == ("Tea is" if right else "Tea isTea is")
    assert len(provider.requests()) == (1 if right else 2)
