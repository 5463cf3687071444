"""docs/pitfalls/around.md: Waiting for background tasks to complete, for ever."""

import signal

import pytest

from tests.kit.servers import START, raw_get, uvicorn

pytestmark = pytest.mark.timeout(START + 20)
APP = "recipes.pitfalls.graceful_shutdown.thread_that_waits:app"


def test_the_process_stays_even_when_its_last_client_has_left() -> None:
    with uvicorn(APP) as server:
        with raw_get(server.port, "/orders") as answer:
            assert b'{"id": 1}' in answer.chunk()
            server.expect("Waiting for connections to close.")
        # The client is gone, and nobody can end the wait of a thread.
        server.expect("Waiting for background tasks to complete.")
        server.signal(signal.SIGTERM)
        assert server.process.poll() is None
        assert "Waiting for application shutdown." not in server.output()
        server.signal(signal.SIGKILL)  # Nothing else helps.


def test_a_backstop_ends_it() -> None:
    with (
        uvicorn(APP, "--timeout-graceful-shutdown", "1") as server,
        raw_get(server.port, "/orders") as answer,
    ):
        assert b'{"id": 1}' in answer.chunk()
        with pytest.raises(EOFError):
            answer.rest()
        server.expect("Cancel 1 running task(s), timeout graceful shutdown exceeded")
        assert server.wait() == -signal.SIGTERM
