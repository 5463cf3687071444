"""docs/production/security.md: what uvicorn leaves open, and what nginx keeps out."""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress

import pytest

from cookbook.catalog import ROOT
from tests.kit import servers
from tests.kit.nginx import nginx
from tests.kit.servers import HOST, WAIT, Server, raw_get, uvicorn

pytestmark = pytest.mark.timeout(servers.START + 30)

APP = "tests.servers.told_security:app"
GUARD = ROOT / "docs/production/guard.conf"
MB = 1_000_000
ELSEWHERE = "127.0.0.2"  # another client on this machine


@pytest.fixture(scope="module")
def httptools() -> Iterator[Server]:
    with uvicorn(APP, "--http", "httptools", "--timeout-keep-alive", "1") as running:
        yield running


@pytest.fixture(scope="module")
def h11() -> Iterator[Server]:
    with uvicorn(APP, "--http", "h11") as running:
        yield running


@pytest.fixture(scope="module")
def guarded(httptools: Server) -> Iterator[Server]:
    text = GUARD.read_text("utf-8")
    assert "http://127.0.0.1:8000;" in text
    with nginx(text.replace("http://127.0.0.1:8000", httptools.url)) as running:
        yield running


def answered(server: Server, request: bytes, address: str = HOST) -> bytes:
    """Send bytes, and read until the server closes; what it resets counts as read."""
    got = b""
    there = (HOST, server.port)
    with socket.create_connection(there, WAIT, (address, 0)) as connection:
        with suppress(ConnectionError):
            connection.sendall(request)
        with suppress(ConnectionError):
            while more := connection.recv(65_536):
                got += more
    return got


def request(path: str, *fields: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: a", "Connection: close", *fields]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def told(
    server: Server, *fields: str, address: str = HOST
) -> dict[str, str | int | None]:
    found: dict[str, str | int | None] = json.loads(
        answered(server, request("/told", *fields), address).partition(b"\r\n\r\n")[2]
    )
    return found


def test_attack_uvicorn_with_httptools_takes_a_header_of_any_size(
    httptools: Server,
) -> None:
    """Left open: uvicorn with httptools takes a header of 5 MB."""
    assert told(httptools, f"X-Long: {'x' * 5 * MB}")["header"] == 5 * MB


def test_h11_refuses_what_is_much_over_64_kib(h11: Server) -> None:
    assert told(h11, f"X-Long: {'x' * 60_000}")["header"] == 60_000
    answer = answered(h11, request("/told", f"X-Long: {'x' * MB}"))
    assert answer.startswith(b"HTTP/1.1 400 ")
    # What it has not read when it closes makes a reset, which can overtake its answer.
    answer = answered(h11, request("/told", f"X-Long: {'x' * 5 * MB}"))
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")


def test_attack_nginx_refuses_a_header_of_more_than_8_kb(guarded: Server) -> None:
    """A header of 9 kB: nginx answers 400."""
    answer = answered(guarded, request("/told", f"X-Long: {'x' * 9000}"))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"Request Header Or Cookie Too Large" in answer


def half_closed(server: Server, path: str) -> bytes:
    """Ask, say that nothing more will be said, and read what comes."""
    got = b""
    with socket.create_connection((HOST, server.port), WAIT) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        connection.shutdown(socket.SHUT_WR)
        while more := connection.recv(65_536):
            got += more
    return got


@pytest.mark.parametrize("name", ["httptools", "h11"])
def test_a_client_that_closes_its_half_gets_no_stream_to_its_end(
    name: str, request: pytest.FixtureRequest
) -> None:
    # What is sent before the server notices it arrives; there would be no end.
    got = half_closed(request.getfixturevalue(name), "/stream")
    assert not got.endswith(b"0\r\n\r\n")


def test_nginx_hangs_up_on_a_client_that_closes_its_half(guarded: Server) -> None:
    # The first line may be through before nginx notices it; there would be no end.
    assert not half_closed(guarded, "/stream").endswith(b"0\r\n\r\n")


def test_attack_from_this_machine_x_forwarded_for_is_believed(
    httptools: Server,
) -> None:
    """Left open: a program on 127.0.0.1 names another address: uvicorn believes it."""
    seen = told(httptools, "X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https")
    assert (seen["client"], seen["url"]) == ("192.0.2.7", "https://a/told")


@pytest.mark.parametrize(
    "options", [["--no-proxy-headers"], ["--forwarded-allow-ips", "10.0.0.5"]]
)
def test_it_is_not_if_uvicorn_is_told_so(options: list[str]) -> None:
    with uvicorn(APP, *options) as server:
        assert told(server, "X-Forwarded-For: 192.0.2.7")["client"] == HOST


def test_attack_nginx_overwrites_what_a_client_says_of_itself(guarded: Server) -> None:
    """A client forges its address, scheme and host: nginx overwrites them."""
    fields = ["X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https"]
    seen = told(guarded, *fields)
    assert (seen["client"], seen["url"]) == (HOST, "http://shop.example/told")


def test_a_proxy_behind_another_trusts_only_the_one_before_it(
    httptools: Server, guarded: Server
) -> None:
    trust = "set_real_ip_from 127.0.0.1;\nreal_ip_header X-Forwarded-For;\n"
    text = GUARD.read_text("utf-8")
    forged = "X-Forwarded-For: 192.0.2.7"
    with nginx(trust + text.replace("http://127.0.0.1:8000", httptools.url)) as inner:
        with nginx(text.replace("http://127.0.0.1:8000", inner.url)) as outer:
            assert told(outer, forged, address=ELSEWHERE)["client"] == ELSEWHERE
        # Another client does not get around the outer one.
        assert told(inner, forged, address=ELSEWHERE)["client"] == ELSEWHERE
    # Without it the inner one takes the outer one for the client.
    with nginx(text.replace("http://127.0.0.1:8000", guarded.url)) as outer:
        assert told(outer, forged, address=ELSEWHERE)["client"] == HOST


def test_attack_the_host_is_whatever_the_client_says(httptools: Server) -> None:
    """Left open: the Host field decides what `request.url` says."""
    assert told(httptools)["url"] == "http://a/told"


def test_attack_uvicorn_waits_for_the_rest_of_a_head(httptools: Server) -> None:
    """Left open: half a head, and then silence: uvicorn waits."""
    with closing(socket.create_connection((HOST, httptools.port), WAIT)) as half:
        half.sendall(b"GET /told HTTP/1.1\r\nHost: a\r\n")
        with raw_get(httptools.port, "/told") as idle:
            # It closes this one, which has had its answer, after --timeout-keep-alive.
            assert idle.stream.read().endswith(b"}")
        half.sendall(b"Connection: close\r\n\r\n")
        assert half.recv(100).startswith(b"HTTP/1.1 200 ")


def test_attack_nginx_gives_half_a_head_up(httptools: Server) -> None:
    """Half a head, and then silence: nginx closes the connection."""
    text = GUARD.read_text("utf-8").replace("http://127.0.0.1:8000", httptools.url)
    assert "client_header_timeout 10s;" in text
    quick = text.replace("client_header_timeout 10s;", "client_header_timeout 1s;")
    with nginx(quick) as server:
        answer = answered(server, b"GET /told HTTP/1.1\r\nHost: a\r\n")
    assert answer == b""


def test_attack_nginx_refuses_a_body_that_uvicorn_would_take(
    httptools: Server, guarded: Server
) -> None:
    """A body of 2 MB, where 1 MB is allowed: nginx answers 413."""
    head = b"POST /body HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
    large = head + b"Content-Length: %d\r\n\r\n" % (2 * MB) + bytes(2 * MB)
    assert answered(httptools, large).endswith(b"\r\n\r\n2000000")
    assert answered(guarded, large).startswith(b"HTTP/1.1 413 ")


def test_uvicorn_names_itself_unless_told_not_to(
    httptools: Server, guarded: Server
) -> None:
    assert b"\r\nserver: uvicorn\r\n" in answered(httptools, request("/told"))
    assert b"\r\nServer: nginx/" in answered(guarded, request("/told"))
    with uvicorn(APP, "--no-server-header") as server:
        assert b"uvicorn" not in answered(server, request("/told"))


def test_limit_concurrency_counts_open_streams_and_serves_one_less() -> None:
    with uvicorn(APP, "--limit-concurrency", "3") as server, ExitStack() as stack:
        heads = [
            stack.enter_context(raw_get(server.port, "/stream")).head[:12]
            for _ in range(3)
        ]
    assert heads == ["HTTP/1.1 200", "HTTP/1.1 200", "HTTP/1.1 503"]
