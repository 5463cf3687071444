"""docs/recipes/plain_text.md: text from a real server, and how a server is frozen."""

import signal
from collections.abc import Iterator

import httpx2
import pytest

from recipes.plain_text import ORDERS
from tests.kit import servers
from tests.kit.servers import Server, raw_get, uvicorn

pytestmark = pytest.mark.timeout(servers.START + 10)

ROUTES = [
    ("/async", "/go/async", "utf-8"),
    ("/sync", "/go/sync", "utf-8"),
    ("/route", "/go/async", "utf-8"),
    ("/bytes", "/go/sync", "iso-8859-1"),
]
every_route = pytest.mark.parametrize(
    ("path", "go", "charset"), ROUTES, ids=[path for path, *_ in ROUTES]
)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with uvicorn("tests.servers.held_plain_text:app") as running:
        yield running


def let(server: Server, go: str) -> None:
    with raw_get(server.port, go) as answer:
        assert answer.head.startswith("HTTP/1.1 204 ")


@every_route
def test_each_line_is_read_before_the_next_may_be_made(
    server: Server, path: str, go: str, charset: str
) -> None:
    with raw_get(server.port, f"{path}/2") as answer:
        assert f"charset={charset}\r\n" in answer.head
        assert answer.chunk() == "Order 2 for Zoë\n".encode(charset)
        for item in ORDERS[2].items:
            let(server, go)
            assert answer.chunk() == f"packed: {item}\n".encode(charset)
        assert [answer.chunk(), answer.chunk()] == [b"Ready to ship\n", b""]


@every_route
def test_an_error_in_mid_stream_leaves_the_body_without_its_last_chunk(
    server: Server, path: str, go: str, charset: str
) -> None:
    with raw_get(server.port, f"{path}/3") as answer:
        assert answer.head.startswith("HTTP/1.1 200 OK\r\n")
        assert answer.chunk().decode(charset) == "Order 3 for Eve\n"
        let(server, go)
        assert answer.chunk() == b"packed: green tea\n"
        with pytest.raises(EOFError, match="cut off"):
            answer.chunk()
    server.expect("the shelf is gone")


@every_route
def test_an_error_in_mid_stream_is_an_error_to_a_python_client(
    server: Server, path: str, go: str, charset: str
) -> None:
    url = f"http://127.0.0.1:{server.port}{path}/3"
    with httpx2.stream("GET", url) as response:
        lines = response.iter_lines()
        assert (response.encoding, next(lines)) == (charset, "Order 3 for Eve")
        let(server, go)
        assert next(lines) == "packed: green tea"
        with pytest.raises(httpx2.RemoteProtocolError, match="incomplete chunked read"):
            next(lines)


def answers(server: Server) -> bool:
    try:
        with raw_get(server.port, "/openapi.json") as answer:
            return answer.head.startswith("HTTP/1.1 200 OK\r\n")
    except TimeoutError:
        return False


@pytest.mark.parametrize(
    ("path", "frozen"), [("/tickets", True), ("/tickets-as-route", False)]
)
def test_without_an_await_one_client_that_leaves_stops_the_server_for_all(
    path: str, frozen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with uvicorn("recipes.pitfalls.plain_text.generator_without_await:app") as server:
        assert answers(server)
        with raw_get(server.port, path) as answer:
            assert answer.chunk() == b"ticket 1\n"
        if frozen:
            monkeypatch.setattr(servers, "WAIT", 2)
        assert answers(server) != frozen
        if frozen:
            # Nor does it listen to anything else.
            server.signal(signal.SIGTERM)
            with pytest.raises(AssertionError, match="did not end"):
                server.wait(0.5)
            server.signal(signal.SIGKILL)
