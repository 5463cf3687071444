"""The scripted provider, for the tests of its modules."""

from collections.abc import Iterator

import pytest

from cookbook.llm import scripted
from cookbook.llm.scripted import Provider


@pytest.fixture(scope="module")
def running() -> Iterator[Provider]:
    with scripted.running(pace=0) as provider:
        yield provider


@pytest.fixture
def provider(running: Provider) -> Provider:
    """Give every test a provider that has seen nothing."""
    running.reset()
    return running
