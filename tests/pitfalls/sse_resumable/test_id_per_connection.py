"""docs/pitfalls/events.md: After a reconnect EventSource gets events twice."""

import pytest
from fastapi.testclient import TestClient

from recipes.pitfalls.sse_resumable.id_per_connection import ORDERS, app
from tests.kit import sse

client = TestClient(app)


def ask(path: str, last_id: str) -> sse.Parsed:
    """Ask for what came after an id, as a browser does."""
    headers = {b"last-event-id": last_id.encode()} if last_id else None
    return sse.parse([client.get(path, headers=headers).content])


@pytest.mark.parametrize(
    ("path", "right"), [("/events", False), ("/right-events", True)]
)
def test_the_second_reconnect_doubles_what_the_first_one_got(
    path: str, right: bool
) -> None:
    first = ask(path, "3")
    assert [event.data for event in first.events] == ['{"order": 4}', '{"order": 5}']
    second = ask(path, first.last_event_id)
    doubled = [event.data for event in second.events]
    if right:
        assert doubled == []
    else:
        assert doubled == ['{"order": 3}', '{"order": 4}', '{"order": 5}']


@pytest.mark.parametrize("last_id", ["", "abc", "²", "-1"])
def test_both_begin_anew_when_the_id_is_no_number(last_id: str) -> None:
    for path in ("/events", "/right-events"):
        assert len(ask(path, last_id).events) == len(ORDERS) == 5
