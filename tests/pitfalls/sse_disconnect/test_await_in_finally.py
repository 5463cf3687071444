"""docs/pitfalls/events.md: await in finally is cancelled, and nothing is saved."""

import pytest

from recipes.pitfalls.sse_disconnect import await_in_finally as module
from tests.kit.asgi import drive


@pytest.mark.parametrize(
    ("path", "saved"), [("/events", []), ("/shielded-events", ["shielded"])]
)
def test_what_is_saved_when_the_client_leaves(
    path: str, saved: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "database", [])
    assert drive(module.app, path, disconnect_at=1).journal[-1] == "returned"
    assert module.saved() == saved
