"""docs/recipes/sse_basic.md: its claims about a server that is stopped."""

import signal
from collections.abc import Iterator

import pytest

from recipes.sse_basic import END
from tests.kit import servers
from tests.kit.servers import Server, raw_get, uvicorn
from tests.kit.sse import parse

pytestmark = pytest.mark.timeout(servers.START + 10)

PLAIN = ("tests.servers.endless:app",)
IMPORTED = ("--factory", "tests.servers.endless:with_sse_starlette")
WAITING = "Waiting for connections to close"
STOPS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with uvicorn("recipes.sse_basic:app") as running:
        yield running


@pytest.mark.parametrize("path", ["/native", "/by-hand", "/sse-starlette"])
def test_an_event_is_a_chunk_on_the_wire(server: Server, path: str) -> None:
    with raw_get(server.port, path) as answer:
        chunks = list(iter(answer.chunk, b""))
    assert [len(parse([chunk]).events) for chunk in chunks] == [1] * 6
    assert parse(chunks).last_event_id == END


@pytest.mark.parametrize("stop", STOPS, ids=lambda stop: stop.name)
@pytest.mark.parametrize("path", ["/plain", "/native"])
@pytest.mark.parametrize("app", [PLAIN, IMPORTED], ids=["alone", "sse-starlette too"])
def test_by_hand_and_in_fastapi_a_server_that_is_stopped_waits_for_its_streams(
    app: tuple[str, ...], path: str, stop: signal.Signals
) -> None:
    with uvicorn(*app) as server:
        with raw_get(server.port, path) as answer:
            assert b"placed" in answer.chunk()
            server.signal(stop)
            server.expect(WAITING)
            with pytest.raises(AssertionError, match="did not end within"):
                server.wait(0.5)
            assert "cleaned up" not in server.output()
        # Only its client's leaving lets it go.
        assert server.wait() in (0, -stop)
    assert "cleaned up" in server.output()


@pytest.mark.parametrize("stop", STOPS, ids=lambda stop: stop.name)
def test_a_server_that_is_stopped_has_sse_starlette_end_its_streams(
    stop: signal.Signals,
) -> None:
    with uvicorn(*IMPORTED) as server, raw_get(server.port, "/sse-starlette") as answer:
        assert b"placed" in answer.chunk()
        server.signal(stop)
        assert server.wait() in (0, -stop)
        assert "cleaned up" in server.output()
        # The stream ends without its last chunk, and uvicorn says so.
        with pytest.raises(EOFError, match="cut off"):
            answer.chunk()
        assert "callable returned without completing response" in server.output()
