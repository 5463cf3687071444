"""docs/pitfalls/tokens.md: the provider still writes after break."""

import asyncio
from urllib.parse import urlsplit

import httpx2
import pytest
from openai import AsyncOpenAI

from cookbook.background import serving
from cookbook.llm import scripted
from recipes import llm_cancel
from recipes.pitfalls.llm_cancel import break_leaves_it_open as wrong
from tests.kit.llm_cancel import generation, post_cancel


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a token only when told to, and forget what another test has left."""
    monkeypatch.setenv("OPENAI_MODEL", "gated")
    monkeypatch.delenv("REDIS_URL", raising=False)
    wrong.answers.clear()


def test_wrong_after_break_the_provider_still_writes(
    provider: scripted.Provider,
) -> None:
    with serving(wrong.app) as address, httpx2.Client(base_url=address) as client:
        provider.go(3)
        text = client.get("/answer?prompt=x&model=gated&tokens=3").text
        assert text == "Tea is hot"
        assert client.get("/open").json() == {"open": 1}
        provider.go(20)
        made = provider.wait(1, lambda request: request.tokens_made == 23)
        assert made.hung_up_after is None
        wrong.answers.clear()


@pytest.mark.usefixtures("provider")
def test_an_answer_that_is_read_to_its_end_hides_the_mistake(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def read() -> str:
        async with AsyncOpenAI() as client:
            monkeypatch.setattr(wrong, "AsyncOpenAI", lambda: client)
            return "".join([text async for text in wrong.write("x", "ok", 100)])

    assert asyncio.run(read()) == "Tea is hot because the water was."


def test_right_who_is_stopped_leaves_the_provider(provider: scripted.Provider) -> None:
    with serving(llm_cancel.app) as address:
        port = urlsplit(address).port
        assert port
        with generation(port, "tea") as stream:
            provider.go(3)
            assert [stream.next()[0] for _ in range(4)][-1] == "token"
            assert post_cancel(port, "tea") == 204
            assert stream.rest()[-1][0] == "cancelled"
            assert provider.wait(1).hung_up_after == 3
