"""docs/pitfalls/events.md: One stream reads the database, and all others stand."""

import json
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from recipes.pitfalls.sse_database.blocking_session import app
from tests.kit import sse


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    """Keep one event loop for both requests: a connection belongs to its loop."""
    with TestClient(app) as running:
        yield running


@pytest.mark.parametrize(
    ("path", "blocks"), [("/blocking-session", True), ("/async-session", False)]
)
def test_others_get_their_turn_only_beside_an_async_session(
    client: TestClient, path: str, blocks: bool
) -> None:
    (event,) = sse.parse([client.get(path).content]).events
    report = json.loads(event.data)
    assert report["orders"] == 3_000_000
    assert (report["others_ran"] == 0) == blocks
