"""What the tests of several recipes that ask a language model need."""

from collections.abc import Iterator

import httpx2
import pytest

from cookbook.llm import scripted
from tests.kit.asgi import note
from tests.kit.llm import AT_ONCE, SILENT, provider_with


@pytest.fixture(scope="module")
def running() -> Iterator[scripted.Provider]:
    """Run the scripted provider without pauses; it can play `at-once` too."""
    with provider_with(AT_ONCE, pace=0) as provider:
        yield provider


@pytest.fixture
def provider(
    running: scripted.Provider, monkeypatch: pytest.MonkeyPatch
) -> scripted.Provider:
    """Lead the SDKs to the scripted provider; no model is chosen."""
    for name, value in running.env.items():
        monkeypatch.setenv(name, value)
    for name in ("OPENAI_MODEL", "ANTHROPIC_MODEL"):
        monkeypatch.delenv(name, raising=False)
    running.reset()
    return running


@pytest.fixture(scope="module")
def silent() -> Iterator[scripted.Provider]:
    """Run a provider that takes its time, and an hour for `silent`."""
    with provider_with(SILENT) as provider:
        yield provider


@pytest.fixture
def noted_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """Note when the provider's response is closed, whoever does it."""
    close = httpx2.Response.aclose

    async def noted(response: httpx2.Response) -> None:
        await close(response)
        note("closed")

    monkeypatch.setattr(httpx2.Response, "aclose", noted)
