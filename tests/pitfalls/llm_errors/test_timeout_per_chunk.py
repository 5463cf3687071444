"""docs/pitfalls/tokens.md: OpenAI timeout ignored, a slow answer goes on."""

from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from cookbook.llm import scripted
from recipes.pitfalls.llm_errors import timeout_per_chunk as wrong
from tests.kit.asgi import drive
from tests.kit.llm_errors import asked, environment, told

DRIP = 0.001  # seconds before each byte
LIMIT = 0.4  # seconds; a gap never comes near it
SLOW = f"""
[ok]
about = "One byte a chunk, slowly"
tokens = ["Hot", "."]
cut = "byte"
drip = {DRIP}

[slower]
about = "No machine is so busy that the answer is over before the deadline"
tokens = ["Hot", "."]
cut = "byte"
drip = 0.1
"""


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[scripted.Provider]:
    """Start a provider whose answers drip."""
    file = tmp_path_factory.mktemp("slow") / "slow.toml"
    file.write_text(SLOW, "utf-8")
    with scripted.running(file) as running:
        yield running


def test_a_timeout_lets_an_answer_pass_that_takes_longer(
    provider: scripted.Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in provider.env.items():
        monkeypatch.setenv(name, value)
    made = AsyncOpenAI
    read = list[int]()
    limits = list[float]()

    def shorter(timeout: float) -> AsyncOpenAI:
        """Give the SDK's client, with less patience than the pitfall has."""
        limits.append(timeout)
        http = DefaultAsyncHttpxClient(event_hooks={"response": [count]})
        return made(timeout=LIMIT, http_client=http)

    async def count(response: httpx2.Response) -> None:
        """Count the body's bytes, each of which comes after a pause."""
        raw = response.aiter_raw

        async def counted(size: int | None = None) -> AsyncIterator[bytes]:
            async for piece in raw(size):
                read.append(len(piece))
                yield piece

        monkeypatch.setattr(response, "aiter_raw", counted)

    monkeypatch.setattr(wrong, "AsyncOpenAI", shorter)
    run = drive(wrong.app, "/answer?model=ok")
    assert (run.status, run.body) == (200, b'"Hot."')
    assert limits == [1.0]
    assert sum(read) * DRIP > LIMIT


def test_a_deadline_for_the_first_token_ends_it(provider: scripted.Provider) -> None:
    run = asked(environment(provider, openai="slower"), deadline=1.0)
    assert told(run) == "504, `timeout`"
    assert provider.wait(len(provider.requests())).hung_up_after is not None
