"""docs/pitfalls/events.md: The stream goes on at 100 % CPU after a disconnect."""

from pathlib import Path

import pytest

from recipes import sse_disconnect
from recipes.pitfalls.sse_disconnect import swallowed_cancellation as wrong
from tests.kit.asgi import drive


def test_who_catches_the_cancellation_goes_on_and_who_raises_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse_disconnect, "BOOK", tmp_path / "book.txt")
    monkeypatch.setattr(wrong, "made", [])
    for app, path in [(wrong.app, "/events"), (sse_disconnect.app, "/by-hand")]:
        run = drive(app, path, disconnect_at=1)
        assert len(run.chunks) == 1
        assert (run.lost > 0) == (app is wrong.app)
    # All at once, although there is half a second between two orders.
    assert len(wrong.made) == 50
    assert wrong.count_made() == 50
    assert (tmp_path / "book.txt").read_text().startswith("/by-hand: 1 given")
