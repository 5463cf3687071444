"""docs/pitfalls/tokens.md: one user can stop the answers of another."""

from urllib.parse import urlsplit

import httpx2
import pytest

from cookbook.background import serving
from cookbook.llm import scripted
from recipes import llm_cancel
from recipes.pitfalls.llm_cancel import anyones_id as wrong
from tests.kit import servers
from tests.kit.llm_cancel import generation, post_cancel


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a token only when told to, and forget what another test has left."""
    monkeypatch.setenv("OPENAI_MODEL", "gated")
    monkeypatch.delenv("REDIS_URL", raising=False)
    wrong.tasks.clear()
    wrong.owners.clear()


def test_wrong_zoe_stops_the_answer_of_ada(provider: scripted.Provider) -> None:
    with serving(wrong.app) as address, httpx2.Client(base_url=address) as client:
        begun = client.post("/answers?prompt=x&model=gated&user=ada").json()
        provider.go(1)
        provider.wait(1, lambda request: request.tokens_made == 1)
        stopped = client.post(f"/answers/{begun['id']}/cancel?user=zoe")
        assert stopped.json() == {"stopped": "the answer of ada"}
        assert provider.wait(1).hung_up_after == 1
        # And whoever counts learns how many answers there are.
        assert client.post("/answers/2/cancel?user=zoe").status_code == 404
        assert client.post("/answers/0/cancel?user=zoe").status_code == 404


def test_an_answer_that_nobody_stops_is_complete(provider: scripted.Provider) -> None:
    with serving(wrong.app) as address, httpx2.Client(base_url=address) as client:
        client.post("/answers?prompt=x&model=ok&user=ada")
        servers.until(lambda: wrong.tasks[0].done(), "the answer")
        assert provider.wait(1).ended == "complete"


def test_right_zoe_is_told_what_she_would_be_told_of_no_answer(
    provider: scripted.Provider,
) -> None:
    with serving(llm_cancel.app) as address:
        port = urlsplit(address).port
        assert port
        with generation(port, "tea") as stream:
            assert stream.next()[0] == "start"
            assert post_cancel(port, "tea", "zoe") == 404
            provider.go(1)
            assert stream.next() == ("token", {"text": "Tea"})
            assert post_cancel(port, "tea", "ada") == 204
            assert stream.rest()[-1][0] == "cancelled"
