"""docs/pitfalls/around.md: the access log has the token of an EventSource."""

import asyncio
import logging

import pytest
from limits.aio.storage import MemoryStorage

from recipes import stream_limits as recipe
from recipes.pitfalls.stream_limits import token_in_address as wrong
from tests.kit.asgi import drive


def logged(path: str) -> None:
    """Log a request as uvicorn does."""
    uvicorn = logging.getLogger("uvicorn.access")
    uvicorn.info('%s - "%s %s HTTP/%s" %d', "127.0.0.1:1", "GET", path, "1.1", 200)


def test_the_log_shows_a_token_that_lets_anybody_in() -> None:
    path = "/events?token=secret-of-ada"
    assert drive(wrong.app, path).body == b'data: "for ada"\n\n'

    async def run() -> list[str]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(logging.getLogger("uvicorn.access"), "level", logging.INFO)
            async with wrong.lifespan(wrong.app):
                logged(path)
            logged("/after")
        return await wrong.log()

    wrong.lines.clear()
    (line,) = asyncio.run(run())
    assert line == f'127.0.0.1:1 - "GET {path} HTTP/1.1" 200'
    # Whoever reads the line has the stream, today and tomorrow.
    found = line.split('"')[1].split()[1]
    assert drive(wrong.app, found).body == b'data: "for ada"\n\n'


def test_another_token_is_refused() -> None:
    assert drive(wrong.app, "/events?token=guess").body == b""


def test_what_the_log_has_of_the_recipe_lets_nobody_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    storage = MemoryStorage()
    monkeypatch.setenv("SESSION_KEY", "of the test")
    monkeypatch.setattr(recipe, "storage_from_string", lambda *_, **__: storage)
    desk = recipe.Desk("of the test", storage)
    token = desk.sign_in("ada")
    session = asyncio.run(desk.check(desk.sessions, token, 30))
    ticket = desk.make_ticket(session)
    path = f"/events?ticket={ticket}"
    assert drive(recipe.app, path, disconnect_at=1).status == 200
    assert drive(recipe.app, path).status == 401
    for header in (f"Bearer {ticket}", f"Bearer {session.id}"):
        headers = {"Authorization": header}
        assert drive(recipe.app, "/events", headers=headers).status == 401
    assert token not in path
