"""docs/pitfalls/events.md: finally does not run when a client disconnects."""

import gc

import pytest
from fastapi.testclient import TestClient

from recipes.pitfalls.sse_disconnect import place_in_generator as module
from tests.kit.asgi import drive, note


class Noted(list[str]):
    """Places whose return is noted."""

    def remove(self, place: str) -> None:
        """Give a place back."""
        note("free")
        super().remove(place)


@pytest.mark.parametrize(
    ("path", "right"), [("/events", False), ("/right-events", True)]
)
def test_a_slow_client_that_leaves_keeps_its_place_if_a_generator_gives_it_back(
    path: str, right: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "places", Noted())
    run = drive(module.app, path, stall_at=2, disconnect_at=2)
    assert run.journal[-1] == "returned"
    assert ("free" in run.journal) == right


def test_the_collector_is_off_only_while_the_program_runs() -> None:
    assert gc.isenabled()
    with TestClient(module.app) as client:
        assert not gc.isenabled()
        assert client.get("/places").json() == []
    assert gc.isenabled()
