"""docs/pitfalls/bytes.md: a client disconnects and the server hangs."""

import pytest

from recipes.pitfalls.plain_text.generator_without_await import app
from tests.kit.asgi import drive


@pytest.mark.parametrize(
    ("target", "frozen"), [("/tickets", True), ("/tickets-as-route", False)]
)
def test_only_yielding_from_the_route_lets_the_server_go_on(
    target: str, frozen: bool
) -> None:
    run = drive(app, target, disconnect_at=3)
    assert ("frozen" in run.journal) == frozen
    assert run.journal[-1] == ("raised Frozen" if frozen else "returned")
