"""docs/pitfalls/tokens.md: the Stop button does nothing while the model is silent."""

import asyncio
from urllib.parse import urlsplit

import httpx2
import pytest

from cookbook.background import serving
from cookbook.llm import scripted
from recipes import llm_cancel
from recipes.pitfalls.llm_cancel import flag_between_tokens as wrong
from tests.kit.llm_cancel import generation, post_cancel


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what another test has left."""
    monkeypatch.delenv("REDIS_URL", raising=False)
    # An event belongs to the event loop in which somebody has waited for it.
    monkeypatch.setattr(wrong, "stop", asyncio.Event())
    monkeypatch.setattr(wrong, "first", asyncio.Event())


def test_wrong_a_stalled_provider_never_sees_the_flag(
    provider: scripted.Provider,
) -> None:
    with serving(wrong.app) as address, httpx2.Client(base_url=address) as client:
        client.post("/answer?prompt=x&model=stall-after-first")
        assert client.post("/cancel").status_code == 200
        assert client.get("/writing").json() == {"stop": True, "writing": True}
        assert provider.requests()[0].ended is None
        for task in wrong.tasks:
            task.get_loop().call_soon_threadsafe(task.cancel)
        assert provider.wait(1).hung_up_after == 1


def test_a_provider_that_goes_on_hides_the_mistake(provider: scripted.Provider) -> None:
    with serving(wrong.app) as address, httpx2.Client(base_url=address) as client:
        provider.go(1)
        client.post("/answer?prompt=x&model=gated")
        client.post("/cancel")
        provider.go(1000)
        assert client.get("/writing").json() == {"stop": True, "writing": False}
        assert provider.wait(1).hung_up_after is not None


def test_before_any_answer_nothing_is_being_written() -> None:
    with serving(wrong.app) as address, httpx2.Client(base_url=address) as client:
        assert client.get("/writing").json() == {"stop": False, "writing": False}


def test_right_the_recipe_cancels_what_it_waits_for(
    provider: scripted.Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_MODEL", "stall-after-first")
    with serving(llm_cancel.app) as address:
        port = urlsplit(address).port
        assert port
        with generation(port, "tea") as stream:
            assert [stream.next()[0] for _ in range(2)] == ["start", "token"]
            assert post_cancel(port, "tea") == 204
            assert stream.rest() == [("cancelled", {"by": "request", "tokens": 1})]
        assert provider.wait(1).hung_up_after == 1
