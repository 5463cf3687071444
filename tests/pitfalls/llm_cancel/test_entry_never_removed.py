"""docs/pitfalls/tokens.md: the table of running answers only grows."""

from urllib.parse import urlsplit

import httpx2
import pytest

from cookbook.background import serving
from cookbook.llm import scripted
from recipes import llm_cancel
from recipes.llm_cancel import Generation, Table
from recipes.pitfalls.llm_cancel import entry_never_removed as wrong
from tests.kit.llm_cancel import generation
from tests.kit.servers import raw_get


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a token only when told to, and forget what another test has left."""
    monkeypatch.setenv("OPENAI_MODEL", "gated")
    monkeypatch.delenv("REDIS_URL", raising=False)
    wrong.running.clear()


def port_of(address: str) -> int:
    port = urlsplit(address).port
    assert port
    return port


def test_wrong_who_leaves_stays_in_the_table(provider: scripted.Provider) -> None:
    with serving(wrong.app) as address:
        for number in (1, 2):
            with raw_get(port_of(address), "/answer?prompt=x&model=gated") as answer:
                provider.go(1)
                answer.chunk()
            assert provider.wait(number).hung_up_after == 1
        assert httpx2.get(f"{address}/running").json() == {"running": 2}
    assert len(wrong.running) == 2


def test_an_answer_that_is_read_to_its_end_hides_the_mistake(
    provider: scripted.Provider,
) -> None:
    provider.go(1000)
    with serving(wrong.app) as address:
        httpx2.get(f"{address}/answer?prompt=x&model=gated")
        assert httpx2.get(f"{address}/running").json() == {"running": 0}


def test_right_the_recipe_takes_out_whoever_leaves(
    provider: scripted.Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[int] = []

    class Noting(Table):
        async def remove(self, it: Generation) -> None:
            await super().remove(it)
            left.append(len(self.running))

    monkeypatch.setattr(llm_cancel, "Table", Noting)
    with serving(llm_cancel.app) as address:
        for number in (1, 2):
            with generation(port_of(address), "tea") as stream:
                provider.go(1)
                assert [stream.next()[0] for _ in range(2)] == ["start", "token"]
            assert provider.wait(number).hung_up_after == 1
    assert set(left) == {0}
