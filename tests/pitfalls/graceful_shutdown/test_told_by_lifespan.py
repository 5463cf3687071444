"""docs/pitfalls/around.md: Waiting for connections to close. (CTRL+C to force quit)."""

import asyncio
import signal
from types import SimpleNamespace

import pytest

from recipes import graceful_shutdown as recipe
from recipes.pitfalls.graceful_shutdown import told_by_lifespan as wrong
from tests.kit import servers
from tests.kit.servers import START, raw_get, uvicorn

pytestmark = pytest.mark.timeout(START + 20)
APP = "recipes.pitfalls.graceful_shutdown.told_by_lifespan:app"


def test_the_stream_would_say_goodbye_if_it_were_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[str | None] = []

    async def pause(_: float) -> None:
        await asyncio.sleep(0)
        if len(made) == 3:
            wrong.stopping.set()

    async def read() -> None:
        # The application tells itself to stop at the second order; not here.
        monkeypatch.setattr(wrong, "asyncio", SimpleNamespace(sleep=pause))
        monkeypatch.setattr(wrong, "deploy", lambda: None)
        monkeypatch.setattr(wrong, "stopping", asyncio.Event())
        async for event in wrong.orders():
            made.append(event.event)  # noqa: PERF401 - `pause` looks at it meanwhile

    asyncio.run(read())
    assert made == ["order", "order", "order", "farewell"]


def test_it_is_told_in_the_lifespan_only() -> None:
    async def look() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(wrong, "stopping", asyncio.Event())
            async with wrong.lifespan(wrong.app):
                assert not wrong.stopping.is_set()
            assert wrong.stopping.is_set()

    asyncio.run(look())


def test_the_server_waits_for_the_stream_and_the_stream_for_the_server() -> None:
    with uvicorn(APP) as server:
        with raw_get(server.port, "/orders") as answer:
            for number in range(1, 4):
                assert b'{"id": %d}' % number in answer.chunk()
            server.expect("Waiting for connections to close.")
            # The lifespan's end would end the stream, but it has not begun.
            assert b'{"id": 4}' in answer.chunk()
            assert "Waiting for application shutdown." not in server.output()
        # Only that the client leaves ends it.
        server.expect("Waiting for application shutdown.")
        assert server.wait() == -signal.SIGTERM


def test_the_recipe_tells_its_streams_before() -> None:
    with (
        uvicorn("recipes.graceful_shutdown:app") as server,
        raw_get(server.port, "/native") as answer,
    ):
        assert b"order" in answer.chunk()
        server.signal(signal.SIGTERM)
        assert b"farewell" in answer.rest()
        assert server.wait() == -signal.SIGTERM


def test_the_signal_is_that_of_a_deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[object] = []
    system = SimpleNamespace(kill=lambda *what: sent.append(what), getpid=lambda: 7)
    monkeypatch.setattr(wrong, "os", system)
    wrong.deploy()
    assert sent == [(7, signal.SIGTERM)]
    assert recipe.BACKSTOP < servers.STOP
