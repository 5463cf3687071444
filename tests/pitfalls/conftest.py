"""What the tests of several pitfalls need."""

from collections.abc import Iterator

import pytest

from cookbook.llm import scripted


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[scripted.Provider]:
    """Let the SDKs find a scripted provider."""
    with scripted.running(pace=0) as running:
        for name, value in running.env.items():
            monkeypatch.setenv(name, value)
        yield running
