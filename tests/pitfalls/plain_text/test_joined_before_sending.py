"""docs/pitfalls/bytes.md: Buffering: nothing arrives until the end."""

import pytest

from recipes import plain_text
from recipes.pitfalls.plain_text import joined_before_sending as wrong
from tests.kit.asgi import drive


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pack without pauses."""
    monkeypatch.setattr(plain_text, "PAUSE", 0)


@pytest.mark.parametrize(("right", "chunks"), [(False, 1), (True, 5)])
def test_each_line_is_sent_when_it_is_made_only_if_it_is_not_joined(
    right: bool, chunks: int
) -> None:
    app, path = (plain_text.app, "/async/1") if right else (wrong.app, "/slip/1")
    run = drive(app, path)
    assert len(run.chunks) == chunks
    assert run.body.count(b"\n") == 5
    # Whoever knows the length has the whole text.
    assert ("content-length" in run.headers) == (not right)
