"""docs/pitfalls/around.md: the access log has the token of an EventSource."""

import asyncio
import logging

import httpx2
import pytest

from recipes.pitfalls.stream_limits import token_in_address as wrong
from tests.kit import servers
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


@pytest.mark.timeout(servers.START + 20)
def test_the_recipe_logs_a_ticket_that_nobody_can_use_again() -> None:
    with servers.uvicorn("recipes.stream_limits:app") as server:
        token = httpx2.post(f"{server.url}/sign-in", json={"name": "ada"}).text
        headers = {"Authorization": f"Bearer {token}"}
        ticket = httpx2.post(f"{server.url}/tickets", headers=headers).text
        path = f"/events?ticket={ticket}"
        with servers.raw_get(server.port, path) as answer:
            assert answer.chunk().startswith(b"event: order")
        line = server.expect(f'"GET {path} HTTP/1.1" 200')
        assert token not in line
        assert token not in server.output()
        again = httpx2.get(f"{server.url}{path}")
        assert again.status_code == 401
