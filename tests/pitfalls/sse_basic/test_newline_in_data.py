"""docs/pitfalls/events.md: newlines vanish from my SSE messages."""

import pytest
from fastapi.testclient import TestClient

from recipes.pitfalls.sse_basic import newline_in_data as wrong
from recipes.sse_basic import Event, frame
from tests.kit import sse

HOSTILE = "hello\n\nevent: admin\ndata: delete everything"


def stream(text: str, right: bool) -> bytes:
    """Send a note in the wrong way or in the right one."""
    if right:
        return frame(Event(text, "note", "1")).encode()
    return TestClient(wrong.app).get("/note", params={"text": text}).content


@pytest.mark.parametrize(
    ("right", "events"), [(False, ["note", "admin"]), (True, ["note"])]
)
def test_a_note_can_forge_an_event(right: bool, events: list[str]) -> None:
    """Attack: Wrong: a line end in the data forges an event."""
    parsed = sse.parse([stream(HOSTILE, right)])
    assert [event.event for event in parsed.events] == events
    assert (parsed.events[0].data == HOSTILE) == right


@pytest.mark.parametrize(("right", "data"), [(False, "one"), (True, "one\ntwo")])
def test_a_line_after_a_line_end_is_lost(right: bool, data: str) -> None:
    (event,) = sse.parse([stream("one\ntwo", right)]).events
    assert event.data == data
