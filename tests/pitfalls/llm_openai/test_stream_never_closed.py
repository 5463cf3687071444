"""docs/pitfalls/tokens.md: the model goes on writing after the user has left."""

from urllib.parse import urlsplit

import httpx2
import pytest
from fastapi import FastAPI

from cookbook.background import serving
from cookbook.llm import scripted
from recipes import llm_openai
from recipes.pitfalls.llm_openai import stream_never_closed as wrong
from tests.kit.servers import raw_get


@pytest.fixture(autouse=True)
def _model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a token only when told to."""
    monkeypatch.setenv("OPENAI_MODEL", "gated")


def leave_after_two_tokens(address: str, provider: scripted.Provider) -> None:
    """Ask, read up to the second token, and close the connection."""
    port = urlsplit(address).port
    assert port
    with raw_get(port, "/answer?prompt=x&model=gated") as answer:
        provider.go(2)
        for _ in range(3):
            answer.chunk()


def made_five(request: scripted.Request) -> bool:
    return request.tokens_made == 5


def test_wrong_the_provider_makes_tokens_for_nobody(
    provider: scripted.Provider,
) -> None:
    with serving(wrong.app) as address:
        leave_after_two_tokens(address, provider)
        provider.go(3)
        assert provider.wait(1, until=made_five).hung_up_after is None
        assert httpx2.get(f"{address}/running").json() == {"running": 1}
        provider.go(1000)
        assert provider.wait(1).finished


def test_right_the_provider_stops_at_the_token_that_was_read(
    provider: scripted.Provider,
) -> None:
    with serving(llm_openai.app) as address:
        leave_after_two_tokens(address, provider)
        assert provider.wait(1).hung_up_after == 2


@pytest.mark.parametrize("app", [wrong.app, llm_openai.app], ids=["wrong", "right"])
def test_nobody_notices_as_long_as_clients_stay(
    app: FastAPI, provider: scripted.Provider
) -> None:
    provider.go(1000)
    with serving(app) as address:
        answer = httpx2.get(f"{address}/answer?prompt=x&model=gated")
    assert answer.status_code == 200
    assert provider.wait(1).tokens_made == 1000
    assert wrong.running == set()
