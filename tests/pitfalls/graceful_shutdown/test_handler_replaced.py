"""docs/pitfalls/around.md: uvicorn ignores SIGTERM since I handle it."""

import signal

import pytest

from tests.kit.servers import START, raw_get, uvicorn

pytestmark = pytest.mark.timeout(START + 20)
APP = "recipes.pitfalls.graceful_shutdown.handler_replaced:app"


def test_the_streams_end_but_the_server_goes_on() -> None:
    with uvicorn(APP) as server:
        with raw_get(server.port, "/orders") as answer:
            # After its second order the program sends itself the signal.
            events = answer.rest()
            assert events.count(b"event: order") == 2
            assert b"event: farewell" in events
        for _ in range(3):
            # Who comes back is sent away at once, by the same process, again and again.
            with raw_get(server.port, "/orders") as answer:
                assert answer.rest().startswith(b"event: farewell")
        server.signal(signal.SIGTERM)
        with raw_get(server.port, "/orders") as answer:
            assert answer.rest().startswith(b"event: farewell")
        assert "Shutting down" not in server.output()
        assert server.process.poll() is None
        # Ctrl+C still does, as the page says: only SIGTERM has lost its handler.
        server.signal(signal.SIGINT)
        server.wait()


def test_the_recipe_passes_the_signal_on_to_the_server() -> None:
    with (
        uvicorn("recipes.graceful_shutdown:app") as server,
        raw_get(server.port, "/native") as answer,
    ):
        assert b"order" in answer.chunk()
        server.signal(signal.SIGTERM)
        assert b"farewell" in answer.rest()
        server.expect("Shutting down")
        assert server.wait() == -signal.SIGTERM
