"""What the tests of several recipes that ask a language model need."""

from collections.abc import Iterator

import pytest

from cookbook.llm import local, scripted
from tests.kit.servers import need


@pytest.fixture(scope="module")
def provider() -> Iterator[scripted.Provider]:
    """Run the scripted provider without pauses."""
    with scripted.running(pace=0) as running:
        yield running


@pytest.fixture(scope="module")
def model() -> Iterator[local.Local]:
    """Run the small model on this machine."""
    if reason := local.available():
        need("The local model", reason)
    with local.running() as running:
        yield running
