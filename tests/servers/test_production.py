"""docs/production/proxies.md: its claims about nginx and Caddy, on the files it shows.

The files run as cookbook/proxy.py copies them. Where a test replaces more than ports
and paths, it is to make a limit short, or to show what happens without a directive.
"""

import difflib
import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import (
    AbstractContextManager,
    ExitStack,
    closing,
    contextmanager,
    nullcontext,
    suppress,
)
from http.client import HTTPConnection
from pathlib import Path

import fastapi.routing
import httpx2
import pytest
from uvicorn import Config

from cookbook.catalog import ROOT
from cookbook.proxy import Trial, main
from tests.kit import servers, sse
from tests.kit.proxies import Front, proxy
from tests.kit.redis import redis
from tests.kit.servers import (
    HOST,
    Server,
    free_port,
    need,
    raw_get,
    serve,
    until,
    uvicorn,
)
from tests.servers.behind_proxies import FIRST, LAST, PINGS

pytestmark = pytest.mark.timeout(servers.START + 20)

APP = "tests.servers.behind_proxies:app"
PAGE = (ROOT / "docs/production/proxies.md").read_text("utf-8")
NGINX = (ROOT / "docs/production/nginx.conf").read_text("utf-8")
CADDY = (ROOT / "docs/production/Caddyfile").read_text("utf-8")
BRIEF = 0.2  # seconds; what has not come by then is held until the end
PAUSE = {"nginx": "proxy_read_timeout 60s", "caddy": "read_timeout 60s"}
ELSEWHERE = "127.0.0.2"  # another client on this machine

# Every media type that a transcript of a recipe shows, and the one of unknown bytes.
SEEN = re.compile(r"^content-type: (\S+.*)$", re.MULTILINE)
TYPES = sorted(
    {"application/octet-stream"}.union(
        *(
            SEEN.findall(path.read_text("utf-8"))
            for path in (ROOT / "docs/transcripts").glob("*.txt")
        )
    )
)

each_proxy = pytest.mark.parametrize("name", ["nginx", "caddy"])
each_parser = pytest.mark.parametrize("parser", ["httptools", "h11"])
each_http = pytest.mark.parametrize("http2", [True, False], ids=["http2", "http1"])
Open = Callable[..., AbstractContextManager[Front]]


@pytest.fixture(scope="module")
def apps() -> Iterator[dict[str, Server]]:
    """Run the application on both of uvicorn's parsers."""
    with (
        uvicorn(APP, "--http", "httptools") as one,
        uvicorn(APP, "--http", "h11") as two,
    ):
        yield {"httptools": one, "h11": two}


@pytest.fixture(scope="module")
def front(
    apps: dict[str, Server], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Front]]:
    """Give each proxy as the files have it, started once."""
    started: dict[tuple[str, str], Front] = {}
    with ExitStack() as stack:

        def get(name: str, parser: str = "httptools") -> Front:
            if (name, parser) not in started:
                folder = tmp_path_factory.mktemp(name)
                (folder / "static").mkdir()
                (folder / "static/shop.js").write_text("// A comment.\n" * 1000)
                (folder / "static/shop.webp").write_bytes(b"RIFF")
                opened = proxy(name, folder, apps[parser])
                started[name, parser] = stack.enter_context(opened)
            return started[name, parser]

        yield get


@pytest.fixture
def changed(apps: dict[str, Server], tmp_path: Path) -> Open:
    """Give a proxy with something else in its file."""

    def get(name: str, old: str, new: str, parser: str = "httptools") -> object:
        # The same on many lines, because Caddy's formatter is strict about blocks.
        return proxy(name, tmp_path, apps[parser], changes={old: new})

    return get  # type: ignore[return-value]


def post(path: str, length: int) -> bytes:
    """Write the head of a request whose body has so many bytes."""
    head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {length}\r\n\r\n"
    return head.encode()


def go(app: Server) -> None:
    """Let every body go on that waits."""
    # A client of httpx2 would read the machine's certificates each time.
    with closing(HTTPConnection(HOST, app.port, timeout=servers.WAIT)) as connection:
        connection.request("POST", "/go")
        assert connection.getresponse().status == 200


def arrives(
    front: Front, path: str, *, http2: bool, method: str = "GET", wait: float = 5
) -> bool:
    """Tell whether the first chunk comes while the application holds the second."""
    with front.client(http2=http2) as client:
        timeout = httpx2.Timeout(5, read=wait)
        try:
            with client.stream(method, path, timeout=timeout) as response:
                assert response.status_code == 200
                assert response.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
                chunks = response.iter_raw()
                early = next(chunks) == FIRST
                go(front.app)
                return early and b"".join(chunks) == LAST
        except httpx2.ReadTimeout:
            go(front.app)
            return False


# Streams arrive as they are made


@each_proxy
@each_parser
@each_http
@pytest.mark.parametrize("kind", TYPES)
def test_the_first_chunk_arrives_before_the_second_is_made(
    kind: str, http2: bool, parser: str, name: str, front: Callable[..., Front]
) -> None:
    path = f"/first?{httpx2.QueryParams(type=kind)}"
    assert arrives(front(name, parser), path, http2=http2)


@each_proxy
@each_http
def test_so_does_a_part_of_a_body_whose_length_is_known(
    http2: bool, name: str, front: Callable[..., Front]
) -> None:
    assert arrives(front(name), "/sized", http2=http2)


def test_without_proxy_buffering_off_nginx_holds_every_media_type(
    apps: dict[str, Server], tmp_path: Path
) -> None:
    buffering = {"proxy_buffering off": "proxy_buffering on"}
    old = {"proxy_http_version 1.1": "proxy_http_version 1.0"}
    for number, (parser, changes, http2) in enumerate(
        [("httptools", buffering, False), ("h11", buffering | old, True)]
    ):
        folder = tmp_path / str(number)
        with proxy("nginx", folder, apps[parser], changes=changes) as front:
            for kind in TYPES:
                path = f"/first?{httpx2.QueryParams(type=kind)}"
                assert not arrives(front, path, http2=http2, wait=BRIEF), kind


def test_with_x_accel_buffering_a_stream_passes_an_nginx_that_buffers(
    changed: Open,
) -> None:
    with (
        changed("nginx", "proxy_buffering off", "proxy_buffering on") as front,
        front.client(http2=False) as client,
        client.stream("GET", "/sse_keepalive/native?quiet=60") as response,
    ):
        # nginx obeys the header, and keeps it to itself.
        assert "x-accel-buffering" not in response.headers
        assert b"placed" in next(response.iter_raw())


def test_without_flush_interval_caddy_holds_a_body_whose_length_is_known(
    changed: Open,
) -> None:
    with changed("caddy", "flush_interval -1", "") as front:
        assert not arrives(front, "/sized", http2=True, wait=BRIEF)
        assert arrives(front, "/first", http2=True)


@each_proxy
def test_an_upload_reaches_the_application_while_it_is_sent(
    name: str, front: Callable[..., Front]
) -> None:
    sends_an_upload(front(name))


def sends_an_upload(front: Front) -> None:
    """Send half an upload; the other half when the application has got the first."""

    def halves() -> Iterator[bytes]:
        yield b"half "
        front.app.expect(f"{front.name}: 5.")
        yield b"half "

    with front.client() as client:
        path = f"/upload?name={front.name}"
        assert client.post(path, content=halves()).text == "10"


def test_without_proxy_request_buffering_off_nginx_keeps_it_to_its_end(
    changed: Open,
) -> None:
    old = "proxy_request_buffering off"
    with (
        changed("nginx", old, "proxy_request_buffering on") as front,
        front.connected() as connection,
    ):
        connection.sendall(post("/upload?name=held", 10) + b"half ")
        # A request that nginx reads later is answered earlier.
        with front.client() as client:
            who(client)
        assert "held: " not in front.app.output()
        connection.sendall(b"half ")
        front.app.expect("held: 10.")


@each_proxy
def test_static_files_are_compressed_and_streams_are_not(
    name: str, front: Callable[..., Front]
) -> None:
    with front(name).client() as client:
        script = client.get("/static/shop.js", headers={"Accept-Encoding": "gzip"})
        assert script.headers["content-encoding"] == "gzip"
        assert "javascript" in script.headers["content-type"]
        assert "Accept-Encoding" in script.headers["vary"]
        assert script.text == "// A comment.\n" * 1000
        plain = client.get("/static/shop.js", headers={"Accept-Encoding": "identity"})
        assert "content-encoding" not in plain.headers
        go(front(name).app)
        states = client.get("/sse_keepalive/by-hand?quiet=0.1")
        assert "content-encoding" not in states.headers
        assert client.get("/static/nothing.js").status_code == 404


def test_nginx_sends_a_file_of_another_type_as_unknown_bytes(
    front: Callable[..., Front],
) -> None:
    with front("nginx").client() as client:
        found = client.get("/static/shop.webp")
    assert found.content == b"RIFF"
    assert found.headers["content-type"] == "application/octet-stream"


def test_gzip_of_nginx_holds_streams_only_if_it_buffers(
    apps: dict[str, Server], tmp_path: Path
) -> None:
    gzip = {"proxy_buffering off;": "gzip on; gzip_types *; proxy_buffering off;"}
    held = {"proxy_buffering off;": "gzip on; gzip_types *; proxy_buffering on;"}
    for early, changes in ((True, gzip), (False, held)):
        with (
            proxy("nginx", tmp_path, apps["httptools"], changes=changes) as front,
            front.client() as client,
        ):
            timeout = httpx2.Timeout(5, read=5 if early else BRIEF)
            expected = nullcontext() if early else pytest.raises(httpx2.ReadTimeout)
            with (
                expected,
                client.stream("GET", "/first", timeout=timeout) as response,
            ):
                assert response.headers["content-encoding"] == "gzip"
                assert next(response.iter_bytes()) == FIRST


# Silence


@each_proxy
def test_a_silent_stream_is_cut_and_one_that_pings_is_not(
    name: str, changed: Open
) -> None:
    short = PAUSE[name].replace("60s", "1s")
    with changed(name, PAUSE[name], short) as front, front.client() as client:
        path = "/sse_keepalive/ndjson?quiet=60&ping={}"
        with client.stream("GET", path.format(60)) as response:
            body = response.iter_raw()
            assert b"placed" in next(body)
            with pytest.raises(httpx2.RemoteProtocolError):
                next(body)
        with client.stream("GET", path.format(0.25)) as response:
            body = response.iter_raw()
            assert b"placed" in next(body)
            # Six pings take half as long again as a silence may.
            assert [next(body) for _ in range(6)] == [b"\n"] * 6


def test_the_ping_of_fastapi_is_often_enough_for_both_files() -> None:
    for text in (NGINX, CADDY):
        found = re.search(r"\bread_timeout (\d+)s|proxy_read_timeout (\d+)s", text)
        assert found
        assert int(found[1] or found[2]) >= 4 * vars(fastapi.routing)["_PING_INTERVAL"]


def test_a_write_limit_of_caddy_cuts_every_stream_pings_or_not(changed: Open) -> None:
    limit = ("read_header 10s", "read_header 10s\n\t\t\twrite 1s")
    path = "/sse_keepalive/ndjson?quiet=60&ping=0.25"
    with (
        changed("caddy", *limit) as front,
        front.client() as client,
        pytest.raises(httpx2.RemoteProtocolError),
        client.stream("GET", path) as response,
    ):
        assert len(list(response.iter_raw())) < 10


# The client leaves


@each_proxy
@each_parser
@each_http
def test_a_client_that_leaves_ends_the_stream_in_the_application(
    http2: bool, parser: str, name: str, front: Callable[..., Front]
) -> None:
    here = front(name, parser)
    with (
        here.client(http2=http2) as client,
        client.stream("GET", "/first") as response,
    ):
        assert next(response.iter_raw()) == FIRST
    # The application waits for us: only the proxy can have told it, and not
    # because of a silence of 60 s.
    here.app.expect(f"left {response.headers['x-number']}.")


def test_a_client_that_takes_nothing_holds_the_generator_until_nginx_lets_it_go(
    changed: Open,
) -> None:
    with (
        changed("nginx", "send_timeout 30s", "send_timeout 1s") as front,
        front.connected() as connection,
    ):
        connection.sendall(f"GET /flood HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        told = front.app.expect(" MB")
    sent = re.search(r"flood over after (\d+) MB", told)
    # Without backpressure it would be thousands in this second.
    assert sent
    assert int(sent[1]) < 64


# Ranges


@each_proxy
def test_ranges_pass(name: str, front: Callable[..., Front]) -> None:
    with front(name).client() as client:
        path = "/files/orders.txt"
        part = client.get(path, headers={"Range": "bytes=640-767"})
        assert part.status_code == 206
        assert part.headers["content-range"] == "bytes 640-767/33554432"
        assert part.content.startswith(b"order        10 is packed")
        assert len(part.content) == 128
        headers = {"Range": "bytes=640-767", "If-Range": part.headers["etag"]}
        assert client.get(path, headers=headers).content == part.content
        again = {"If-None-Match": part.headers["etag"]}
        assert client.get(path, headers=again).status_code == 304
        outside = client.get(path, headers={"Range": "bytes=33554432-"})
        assert outside.status_code == 416


# What the application knows about the client


def who(client: httpx2.Client, headers: dict[str, str] | None = None) -> dict[str, str]:
    """Ask the application what it knows."""
    found: dict[str, str] = client.get("/who", headers=headers).json()
    return found


@each_proxy
def test_attack_a_false_x_forwarded_for_does_not_reach_the_application(
    name: str, front: Callable[..., Front]
) -> None:
    """A client names another address as its own: the application sees the true one."""
    false = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "http"}
    with front(name).client(address=ELSEWHERE) as client:
        found = who(client, false)
    assert found["client"] == ELSEWHERE
    assert "203.0.113.7" not in json.dumps(found)
    assert found["url"].startswith("https://127.0.0.1")


def test_without_the_header_the_application_believes_the_client(changed: Open) -> None:
    line = "proxy_set_header X-Forwarded-For $remote_addr;"
    with changed("nginx", line, "") as front, front.client() as client:
        assert who(client, {"X-Forwarded-For": "203.0.113.7"})["client"] == (
            "203.0.113.7"
        )


def test_without_the_other_headers_addresses_of_the_application_are_wrong(
    changed: Open,
) -> None:
    lines = "".join(
        f"            proxy_set_header {line};\n"
        for line in (
            "Host $host",
            "X-Forwarded-For $remote_addr",
            "X-Forwarded-Proto $scheme",
        )
    )
    with changed("nginx", lines, "") as front, front.client() as client:
        assert who(client)["url"] == "http://app/who"


def test_uvicorn_believes_every_program_on_its_machine(
    apps: dict[str, Server],
) -> None:
    false = {"X-Forwarded-For": "203.0.113.7"}
    for address, seen in ((HOST, "203.0.113.7"), (ELSEWHERE, ELSEWHERE)):
        transport = httpx2.HTTPTransport(local_address=address)
        url = apps["httptools"].url
        with httpx2.Client(transport=transport, base_url=url) as client:
            assert who(client, false)["client"] == seen


def test_it_believes_a_proxy_elsewhere_when_it_is_told_its_address() -> None:
    with uvicorn(APP, "--forwarded-allow-ips", ELSEWHERE) as server:
        transport = httpx2.HTTPTransport(local_address=ELSEWHERE)
        with httpx2.Client(transport=transport, base_url=server.url) as client:
            found = who(client, {"X-Forwarded-For": "203.0.113.7"})
    assert found["client"] == "203.0.113.7"


# Connections to the application


@contextmanager
def counted() -> Iterator[Server]:
    """Run an application server that writes when a connection is made or lost."""
    with uvicorn(APP, "--log-level", "trace") as server:
        yield server


@each_proxy
def test_a_connection_to_the_application_is_used_again(
    name: str, tmp_path: Path
) -> None:
    with counted() as app, proxy(name, tmp_path, app) as front:
        with front.client() as client:
            for _ in range(20):
                who(client)
        assert app.output().count("HTTP connection made") <= 3  # one was the kit's


def test_with_http_1_0_each_request_needs_a_new_one(tmp_path: Path) -> None:
    old = {"proxy_http_version 1.1": "proxy_http_version 1.0"}
    with counted() as app, proxy("nginx", tmp_path, app, changes=old) as front:
        with front.client() as client:
            for _ in range(20):
                who(client)
        assert app.output().count("HTTP connection made") >= 20


@each_proxy
def test_the_proxy_closes_an_idle_connection_first(name: str, tmp_path: Path) -> None:
    kept = Config("").timeout_keep_alive
    for text in (NGINX, CADDY):
        found = re.search(r"keepalive(?:_timeout)? (\d+)s", text)
        assert found
        assert int(found[1]) < kept
    old = {"nginx": "keepalive_timeout 4s", "caddy": "keepalive 4s"}[name]
    short = {old: old.replace("4s", "1s")}
    with (
        uvicorn(APP, "--log-level", "trace", "--timeout-keep-alive", "60") as app,
        proxy(name, tmp_path, app, changes=short) as front,
        front.client() as client,
    ):
        who(client)
        app.expect("GET /who")
        app.expect("HTTP connection lost")


@each_proxy
def test_a_connection_that_closes_under_a_post_is_a_502(
    name: str, apps: dict[str, Server], tmp_path: Path
) -> None:
    """What may happen if the application is the one that closes idle connections."""
    with (
        hanging_up() as (port, asked),
        proxy(name, tmp_path, apps["httptools"], ports=[port]) as front,
        front.client() as client,
    ):
        assert client.get("/").status_code == 200
        assert client.post("/", content=b"{}").status_code == 502
    assert [request.split()[0] for request in asked] == [b"GET", b"POST"]


@each_proxy
def test_a_server_that_is_away_is_not_noticed(
    name: str, apps: dict[str, Server], tmp_path: Path
) -> None:
    app = apps["httptools"]
    with (
        proxy(name, tmp_path, app, ports=[app.port, free_port()]) as front,
        front.client() as client,
    ):
        assert [client.get("/who").status_code for _ in range(20)] == [200] * 20
        assert client.post("/go").status_code == 200
        logged = front.server.output()
    assert ("connect() failed (111: " in logged) == (name == "nginx")
    assert (f":{front.trial.apps[1]}" in logged) == (name == "nginx")


def test_a_server_that_takes_no_connection_is_not_waited_for(
    apps: dict[str, Server], tmp_path: Path
) -> None:
    app, old = apps["httptools"], "proxy_connect_timeout 2s"
    changes = {old: old.replace("2s", "1s")}
    with socket.create_server((HOST, 0), backlog=0) as listener, ExitStack() as stack:
        # When one waits to be accepted, the system drops who else wants to connect.
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        ports = [app.port, listener.getsockname()[1]]
        with (
            proxy("nginx", tmp_path, app, ports=ports, changes=changes) as front,
            front.client() as client,
        ):
            assert [client.get("/who").status_code for _ in range(2)] == [200] * 2
            front.server.expect("timed out) while connecting to upstream")


def test_without_lb_try_duration_caddy_answers_502(
    apps: dict[str, Server], tmp_path: Path
) -> None:
    app, once = apps["httptools"], {"lb_try_duration 5s": ""}
    ports = [app.port, free_port()]
    with (
        proxy("caddy", tmp_path, app, ports=ports, changes=once) as front,
        front.client() as client,
    ):
        assert 502 in [client.get("/who").status_code for _ in range(20)]


# Limits


@each_proxy
def test_attack_a_head_of_a_megabyte_is_refused_before_the_application(
    name: str, front: Callable[..., Front]
) -> None:
    """A client sends a head of a megabyte: it gets a 4xx, and nothing is passed on."""
    here = front(name)
    with here.connected() as connection:
        head = f"GET /attack HTTP/1.1\r\nHost: {HOST}\r\nX-Long: ".encode()
        with suppress(OSError):  # It may close before it has read all.
            connection.sendall(head + b"x" * 1024 * 1024 + b"\r\n\r\n")
        with suppress(OSError):
            assert re.match(rb"HTTP/1.1 4(00|31) ", connection.recv(100))
    with here.client() as client:
        who(client)
    assert "/attack" not in here.app.output()


def heads(front: Front, *lines: str) -> tuple[int | None, bool]:
    """Send long lines over HTTP/2, beside a stream on the same connection.

    Gives the status, or None if there was no answer, and whether the stream goes on.
    """
    headers = {f"X-Long-{number}": line for number, line in enumerate(lines)}
    with front.client() as client, client.stream("GET", "/first") as response:
        body = response.iter_raw()
        assert next(body) == FIRST
        status = None
        with suppress(httpx2.RemoteProtocolError):
            status = client.get("/who", headers=headers).status_code
        go(front.app)
        try:
            return status, next(body) == LAST
        except httpx2.RemoteProtocolError:
            return status, False


@pytest.mark.parametrize(
    ("name", "length", "status"),
    [
        ("nginx", 8000, 200),
        ("nginx", 9000, 400),
        ("caddy", 33_000, 200),
        ("caddy", 40_000, 431),
    ],
)
def test_over_http_1_1_a_longer_line_of_a_head_is_refused(
    name: str, length: int, status: int, front: Callable[..., Front]
) -> None:
    with front(name).client(http2=False) as client:
        answer = client.get("/who", headers={"X-Long": "a" * length})
    assert answer.status_code == status


def test_over_http_2_its_compressed_length_counts_and_nginx_closes_the_connection(
    front: Callable[..., Front],
) -> None:
    # HPACK writes an `a` in five bits, and an `&` in eight (RFC 7541, appendix B).
    assert heads(front("nginx"), "a" * 9000) == (200, True)
    assert heads(front("nginx"), "&" * 9000) == (None, False)


def test_over_http_2_a_line_of_more_than_32_kb_lets_caddy_close_the_connection(
    front: Callable[..., Front],
) -> None:
    assert heads(front("caddy"), "a" * 31_900) == (200, True)
    assert heads(front("caddy"), *["a" * 8000] * 5) == (431, True)
    assert heads(front("caddy"), "a" * 33_000) == (None, False)


def test_without_a_proxy_uvicorn_takes_it(apps: dict[str, Server]) -> None:
    with raw_get(apps["httptools"].port, "/who", {"X-Long": "x" * 1024 * 1024}) as got:
        assert got.head.startswith("HTTP/1.1 200 OK")


@each_proxy
def test_attack_a_head_that_never_ends_is_cut_off(name: str, changed: Open) -> None:
    """A client never ends its request's head: the proxy hangs up after a while."""
    old = {"nginx": "client_header_timeout 10s", "caddy": "read_header 10s"}[name]
    with changed(name, old, old.replace("10s", "1s")) as front:
        with front.connected() as connection:
            connection.sendall(f"GET /attack HTTP/1.1\r\nHost: {HOST}\r\nX".encode())
            answer = connection.recv(100)
            assert answer == b"" or re.match(rb"HTTP/1.1 4\d\d ", answer)
        assert "/attack" not in front.app.output()


@each_proxy
def test_attack_a_body_that_never_comes_is_given_up(name: str, changed: Open) -> None:
    """A client never ends its request's body: the application is rid of it."""
    old = {"nginx": "client_body_timeout 30s", "caddy": "read_body 2m"}[name]
    with changed(name, old, old.rsplit(" ", 1)[0] + " 1s") as front:
        with front.connected() as connection:
            connection.sendall(post(f"/upload?name=slow-{name}", 99) + b"never")
            front.app.expect(f"slow-{name}: 5.")
            front.app.expect(f"slow-{name}: given up.")
        # A stream that answers a body is not cut by the same limit.
        body = b'{"text": "tea"}'
        for http2 in (True, False):
            with front.client(http2=http2) as client:
                assert len(client.post("/pings", content=body).content) == PINGS


@each_proxy
def test_attack_a_body_that_is_too_large_is_refused(
    name: str, front: Callable[..., Front]
) -> None:
    """A client sends more than 10 MB: it gets a 413, whatever length it has said."""

    def endless() -> Iterator[bytes]:
        for _ in range(12):
            yield b"x" * 1024 * 1024

    path = f"/upload?name=large-{name}"
    # Each has a connection of its own: the rest of a refused body may still be on it.
    with front(name).client(http2=False) as client:
        assert client.post(path, content=b"x" * 11_000_000).status_code == 413
    # It may be cut before it is answered.
    with front(name).client(http2=False) as client, suppress(httpx2.WriteError):
        assert client.post(path, content=endless()).status_code == 413
    told = re.findall(rf"large-{name}: (\d+)\.", front(name).app.output())
    assert max(map(int, told)) <= 10 * 1024 * 1024


def test_caddy_passes_the_first_10_000_000_bytes_of_it_on(
    front: Callable[..., Front],
) -> None:
    """It does so even if the length that was said is larger."""
    here = front("caddy")
    with here.client(http2=False) as client:
        path = "/upload?name=begun"
        assert client.post(path, content=b"x" * 11_000_000).status_code == 413
    here.app.expect("begun: given up.")
    told = re.findall(r"begun: (\d+)\.", here.app.output())
    assert 0 < max(map(int, told)) <= 10_000_000


def test_without_max_size_caddy_passes_a_body_of_any_length_on(changed: Open) -> None:
    block = "request_body {\n\t\t\tmax_size 10MB\n\t\t}"
    with changed("caddy", block, "") as front, front.client() as client:
        path = "/upload?name=any"
        assert client.post(path, content=b"x" * 11_000_000).text == "11000000"


def test_attack_more_than_100_streams_of_an_address_are_refused(
    front: Callable[..., Front],
) -> None:
    """An address opens streams without end: nginx refuses the 101st with a 429."""
    here = front("nginx")
    with ExitStack() as stack:
        client = stack.enter_context(here.client(address="127.0.0.3"))
        for _ in range(100):
            response = stack.enter_context(client.stream("GET", "/first"))
            assert response.status_code == 200
        other = stack.enter_context(here.client(address="127.0.0.3"))
        assert other.get("/who").status_code == 429
        assert stack.enter_context(here.client()).get("/who").status_code == 200
    here.app.expect(f"left {response.headers['x-number']}.")


def test_attack_a_flood_of_requests_of_an_address_is_slowed_down(
    front: Callable[..., Front],
) -> None:
    """An address asks 400 times at once: nginx answers most of them with a 429."""
    here = front("nginx")
    with here.connected("127.0.0.4") as connection:
        # nginx answers this one alone, so the application's pace does not count.
        one = f"GET /static/nothing.js HTTP/1.1\r\nHost: {HOST}\r\n\r\n"
        last = one.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")
        connection.sendall((one * 399 + last).encode())
        body = b""
        while piece := connection.recv(65536):
            body += piece
    assert body.count(b"HTTP/1.1 429 ") >= 100
    assert body.count(b"HTTP/1.1 404 ") >= 100
    with here.client() as client:
        assert client.get("/who").status_code == 200


def test_each_worker_of_nginx_has_so_many_connections(
    apps: dict[str, Server], tmp_path: Path
) -> None:
    few = {
        "worker_processes auto": "worker_processes 1",
        "worker_connections 10000": "worker_connections 16",
    }
    with (
        proxy("nginx", tmp_path, apps["httptools"], changes=few) as front,
        front.client() as client,
        ExitStack() as stack,
    ):
        statuses = [
            stack.enter_context(client.stream("GET", "/first")).status_code
            for _ in range(20)
        ]
        assert {*statuses} == {200, 500}
        front.server.expect("16 worker_connections are not enough")


# Start and reload


def test_http_is_sent_to_https(front: Callable[..., Front]) -> None:
    here = front("nginx")
    answer = httpx2.get(f"http://{HOST}:{here.trial.http}/who?a=1")
    assert answer.status_code == 301
    assert answer.headers["location"] == f"https://{HOST}/who?a=1"


def test_caddy_says_that_it_speaks_http_3_too(front: Callable[..., Front]) -> None:
    with front("caddy").client() as client:
        assert client.get("/who").headers["alt-svc"].startswith('h3=":')


# Several servers, and new configurations


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("nginx", {}),
        ("caddy", {}),
        # One process, because without its own zone each takes turns by itself.
        ("nginx", {"least_conn;": "", "worker_processes auto": "worker_processes 1"}),
    ],
    ids=["nginx", "caddy", "nginx without"],
)
def test_with_least_conn_the_server_with_the_fewest_streams_gets_the_next(
    name: str, changes: dict[str, str], apps: dict[str, Server], tmp_path: Path
) -> None:
    one, two = apps.values()
    ports = [one.port, two.port]
    with (
        proxy(name, tmp_path, one, ports=ports, changes=changes) as front,
        ExitStack() as stack,
    ):

        def opened(kept: ExitStack) -> httpx2.Response:
            # A connection of its own, so that the proxy learns that it is closed.
            client = kept.enter_context(front.client(http2=False))
            return kept.enter_context(client.stream("GET", "/first"))

        firsts = ExitStack()
        streams = [(kept := ExitStack(), opened(kept)) for _ in range(6)]
        for kept, _ in streams:
            firsts.push(kept)
        with firsts:
            by_process = [response.headers["x-process"] for _, response in streams]
            assert sorted(map(by_process.count, set(by_process))) == [3, 3]
            for kept, response in streams:
                if response.headers["x-process"] == by_process[0]:
                    kept.close()
                    here = str(one.process.pid) == by_process[0]
                    number = response.headers["x-number"]
                    (one if here else two).expect(f"left {number}.")
            again = [opened(stack).headers["x-process"] for _ in range(3)]
            assert (again == [by_process[0]] * 3) == (not changes)


@each_proxy
def test_a_reload_cuts_no_stream(
    name: str, apps: dict[str, Server], tmp_path: Path
) -> None:
    with (
        proxy(name, tmp_path, apps["h11"]) as front,
        front.client(http2=False) as client,
        client.stream("GET", "/first") as response,
    ):
        body = response.iter_raw()
        assert next(body) == FIRST
        front.reload()
        go(front.app)
        assert b"".join(body) == LAST


@each_proxy
def test_but_httpx2_takes_it_for_the_end_of_an_http_2_connection(
    name: str, apps: dict[str, Server], tmp_path: Path
) -> None:
    with (
        proxy(name, tmp_path, apps["h11"]) as front,
        front.client(http2=True) as client,
        client.stream("GET", "/first") as response,
    ):
        body = response.iter_raw()
        assert next(body) == FIRST
        front.reload()
        with pytest.raises(httpx2.RemoteProtocolError, match="ConnectionTerminated"):
            next(body)


def test_nginx_cuts_it_after_its_shutdown_timeout(changed: Open) -> None:
    limit = ("worker_shutdown_timeout 1h", "worker_shutdown_timeout 1s")
    with (
        changed("nginx", *limit) as front,
        front.client(http2=False) as client,
        client.stream("GET", "/first") as response,
    ):
        body = response.iter_raw()
        assert next(body) == FIRST
        front.reload()
        with pytest.raises(httpx2.TransportError):
            next(body)


@contextmanager
def hanging_up() -> Iterator[tuple[int, list[bytes]]]:
    """Listen as an application that answers a GET, and hangs up when asked again.

    Gives the port and what was asked.
    """
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    asked: list[bytes] = []

    def serve_each(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    connection.settimeout(servers.WAIT)
                    asked.append(connection.recv(65536))
                    if asked[-1].startswith(b"GET"):
                        connection.sendall(answer)
                        asked.append(connection.recv(65536))

    with socket.create_server((HOST, 0)) as listener:
        thread = threading.Thread(target=serve_each, args=(listener,))
        thread.start()
        try:
            yield listener.getsockname()[1], asked
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize("fails", ["max_fails=0", "fail_timeout=10s"])
def test_with_max_fails_0_nginx_asks_a_server_that_was_away(
    fails: str, apps: dict[str, Server], tmp_path: Path
) -> None:
    changes = {"max_fails=0": fails, "worker_processes auto": "worker_processes 1"}
    here = apps["httptools"]
    ports = [free_port(), free_port()]
    with (
        proxy("nginx", tmp_path, here, ports=ports, changes=changes) as front,
        front.client() as client,
    ):
        assert client.get("/who").status_code == 502
        # Now the first one comes back.
        argv = [*here.argv[:4], APP, "--port", str(ports[0])]
        with serve(argv, ports[0], warm=True):
            status = client.get("/who").status_code
    assert status == (200 if fails == "max_fails=0" else 502)


@pytest.mark.parametrize("rests", [True, False])
def test_with_fail_duration_caddy_leaves_a_server_that_is_away_alone(
    rests: bool, apps: dict[str, Server], tmp_path: Path
) -> None:
    # Five seconds would only make this test longer.
    changes = {} if rests else {"fail_duration 2s": "", "_duration 5s": "_duration 1s"}
    app = apps["httptools"]
    ports = [app.port, free_port()]
    with (
        proxy("caddy", tmp_path, app, ports=ports, changes=changes) as front,
        front.client() as client,
        ExitStack() as stack,
    ):
        while True:
            # Of two that have no stream Caddy takes any, again and again.
            stream = client.stream("GET", "/first")
            response = stack.enter_context(stream)
            if response.status_code == 200:
                break
        # The server that is there has a stream now, so the other one has the fewest.
        parts = response.iter_raw()  # Without a name it would be closed, and we gone.
        assert next(parts) == FIRST
        assert client.get("/who").status_code == (200 if rests else 502)


class Reader(threading.Thread):
    """A client that reconnects, with Last-Event-ID, until the feed has ended."""

    def __init__(self, front: Front) -> None:
        super().__init__()
        self.front = front
        self.events: list[sse.Event] = []
        self.wait = threading.Event()  # which never comes
        self.retry = 100  # milliseconds
        self.connections = 0
        self.failure: BaseException | None = None

    def run(self) -> None:
        """Read, whatever happens to the connection."""
        try:
            while not (self.events and self.events[-1].event == "end"):
                with suppress(httpx2.TransportError), self.front.client() as client:
                    self.read(client)
                self.wait.wait(self.retry / 1000)
        except BaseException as error:
            self.failure = error

    def read(self, client: httpx2.Client) -> None:
        """Read over one connection."""
        known = list(self.events)
        last = {"Last-Event-ID": known[-1].id} if known else {}
        body = b""
        with client.stream("GET", "/events", headers=last) as response:
            self.connections += 1
            assert response.status_code == 200
            for chunk in response.iter_raw():
                body += chunk
                parsed = sse.parse([body])
                self.retry = parsed.retry or self.retry
                self.events = known + parsed.events

    def states(self) -> list[str]:
        """Give what it knows, in the order in which it came."""
        return [event.data for event in self.events if event.event == "order"]


@pytest.mark.timeout(servers.START + 40)
@each_proxy
def test_two_servers_are_replaced_and_no_event_is_lost_or_doubled(
    name: str, tmp_path: Path
) -> None:
    ports = [free_port(), free_port()]
    app = "tests.servers.watched_sse_resumable:app"

    def at(port: int) -> AbstractContextManager[Server]:
        argv = [sys.executable, "-u", "-m", "uvicorn", app, "--port", str(port)]
        argv += ["--timeout-graceful-shutdown", "1"]
        return serve(argv, port, env={"STREAM_STORE": store.url}, warm=True)

    expected: list[str] = []

    def order(number: int) -> None:
        with front.client() as client:
            assert client.post(f"/orders/{number}").status_code == 202
        states = ["placed", "paid", "packed", "shipped"]
        expected.extend(f'{{"id":{number},"state":"{state}"}}' for state in states)
        until(lambda: all(len(x.states()) == len(expected) for x in readers), "events")

    with redis() as store, ExitStack() as one, ExitStack() as other:
        first = one.enter_context(at(ports[0]))
        second = other.enter_context(at(ports[1]))
        with proxy(name, tmp_path, first, ports=ports) as front:
            readers = [Reader(front) for _ in range(4)]
            for reader in readers:
                reader.start()
            try:
                order(1)
                # Both have readers.
                assert "GET /events" in first.output()
                assert "GET /events" in second.output()
                one.close()
                order(2)
                one.enter_context(at(ports[0]))
                order(3)
                other.close()
                order(4)
                other.enter_context(at(ports[1]))
                order(5)
            finally:
                with front.client() as client:
                    client.post("/end")
                for reader in readers:
                    reader.join(servers.WAIT)
    for reader in readers:
        assert reader.failure is None
        assert reader.states() == expected
        ids = [event.id for event in reader.events]
        assert len(set(ids)) == len(ids) == len(expected) + 1
    assert sum(reader.connections for reader in readers) >= 8


@each_proxy
def test_a_server_that_stops_under_a_stream_shows_a_traceback_and_curl_an_error(
    name: str, tmp_path: Path
) -> None:
    program = shutil.which("curl") or need("curl", "apt-get install curl")
    with (
        uvicorn(APP, "--timeout-graceful-shutdown", "1") as app,
        proxy(name, tmp_path, app) as front,
        subprocess.Popen(
            [program, "-qsSkN", "--max-time", "10", f"{front.url}/first"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as reading,
    ):
        assert reading.stdout
        assert reading.stderr
        assert reading.stdout.readline() == FIRST
        app.signal(signal.SIGINT)
        app.wait()
        assert b"HTTP/2 stream 1 was not closed cleanly" in reading.stderr.read()
        assert "Traceback (most recent call last):" in app.output()
        assert "CancelledError: Task cancelled" in app.output()


# The files and the page's commands


def test_caddy_adds_no_authority_to_those_that_the_machine_trusts(
    front: Callable[..., Front],
) -> None:
    here = front("caddy")
    assert "trust store installation disabled" in here.server.output()
    # It makes an authority all the same, but in the folder of the trial.
    made = "caddy/pki/authorities/local/root.key"
    assert (here.trial.folder / made).is_file()


@pytest.mark.parametrize("file", ["nginx.conf", "Caddyfile"])
def test_a_copy_has_other_addresses_ports_paths_and_user_only(
    file: str, tmp_path: Path
) -> None:
    copy = Trial(tmp_path, 8443, 8088, 2019, (8000, 8010)).write(file)
    old = (ROOT / "docs/production" / file).read_text("utf-8").splitlines()
    new = copy.read_text("utf-8").splitlines()
    changed = [x[2:].strip() for x in difflib.ndiff(old, new) if x[:2] == "+ "]
    assert changed
    for line in changed:
        assert re.match(r"user \w+ \w+;$|http_port|default_bind", line) or any(
            text in line for text in (str(tmp_path), HOST, "stderr")
        ), line


def test_what_is_to_be_replaced_must_be_there(tmp_path: Path) -> None:
    trial = Trial(tmp_path, 8443, 8088, 2019, changes={"proxy_buffering maybe": "on"})
    with pytest.raises(LookupError, match="does not hold 'proxy_buffering maybe'"):
        trial.write("nginx.conf")


def printed() -> list[str]:
    """List the commands of the page."""
    blocks = re.findall(r"^ *```bash\n(.+?)\n *```$", PAGE, re.MULTILINE | re.DOTALL)
    return [" ".join(block.split()) for block in blocks]


def curl(command: str, front: int) -> str:
    """Run a curl command of the page; give what it shows."""
    assert command in printed()
    program = shutil.which("curl") or need("curl", "apt-get install curl")
    words = shlex.split(command.replace(":8443", f":{front}"))[1:]
    done = subprocess.run(
        [program, "-q", "--max-time", "10", *words],
        capture_output=True,
        text=True,
        timeout=20,
    )
    return done.stdout


@contextmanager
def tried(name: str, *apps: int) -> Iterator[Server]:
    """Start a proxy as the page says, on free ports, in front of two others."""
    command = f"python -m cookbook.proxy {name}"
    assert command in printed()
    port = free_port()
    argv = [sys.executable, "-u", *command.split()[1:], "--https", str(port)]
    argv += ["--http", str(free_port()), "--admin", str(free_port())]
    with serve([*argv, "--apps", *map(str, apps)], port) as running:
        yield running


@each_proxy
def test_what_one_tries_on_a_machine_of_ones_own(name: str) -> None:
    command = "curl -kiN 'https://127.0.0.1:8443/by-hand?quiet=2.5&ping=1'"
    assert "uvicorn recipes.sse_keepalive:app" in printed()
    with (
        uvicorn("recipes.sse_keepalive:app") as app,
        tried(name, app.port, free_port()) as front,
    ):
        shown = curl(command, front.port)
        assert shown.startswith("HTTP/2 200")
        assert shown.count("event: ping") == 2
        assert "delivered" in shown
        *_, log = front.output().partition("Press Ctrl+C to stop it.\n")
        assert ('"level":"info"' in log) == (name == "caddy")
        front.signal(signal.SIGINT)
        assert front.wait() == 0


@each_proxy
def test_a_machine_without_the_proxy_is_told_how_to_get_it(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cookbook.proxy.new_nginx", lambda: None)
    monkeypatch.setattr("cookbook.proxy.caddy", lambda: None)
    assert main([name]) == 1
    how = f"pip install -e '.[servers]', or apt-get install {name}"
    assert capsys.readouterr().out == f"{name} is missing: {how}\n"


@each_proxy
def test_a_port_that_is_taken_is_named(name: str) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "cookbook.proxy", name, "--https", port],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
    assert (done.returncode, done.stdout) == (1, f"port {port} is taken\n")


def test_the_commands_for_two_servers_start_them() -> None:
    export, address = "export STREAM_STORE=", "redis://127.0.0.1:6379/0"
    assert export + address in printed()
    assert "cookbook redis" in printed()  # tests/test_cli.py runs it
    start = "uvicorn recipes.sse_resumable:app --port {} --timeout-graceful-shutdown 5"
    with redis() as store, ExitStack() as stack:
        ports = []
        for port in ("8000", "8010"):
            assert start.format(port) in printed()
            _, app, _, _, *options = start.format(port).split()
            env = {"STREAM_STORE": store.url}
            running = stack.enter_context(uvicorn(app, *options, env=env))
            ports.append(running.port)
        front = stack.enter_context(tried("nginx", *ports)).port
        placed = curl("curl -k -X POST https://127.0.0.1:8443/orders/7", front)
        assert placed == '{"id":7,"state":"accepted"}'
        with raw_get(ports[0], "/events") as answer:
            while b"shipped" not in answer.chunk():
                pass
        httpx2.post(f"http://{HOST}:{ports[0]}/end").raise_for_status()
        shown = curl("curl -kN https://127.0.0.1:8443/events", front)
        assert shown.count("event: order") == 4


def test_the_commands_for_a_server_check_and_load_its_file(
    front: Callable[..., Front],
) -> None:
    def run(argv: Sequence[str]) -> str:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20)
        assert done.returncode == 0, done.stderr
        return done.stderr

    assert {"sudo nginx -t", "sudo nginx -s reload"} <= set(printed())
    here = front("nginx")
    whole = [*here.server.argv[:-2]]  # where the file is, which is not `/etc/nginx`
    assert "test is successful" in run([*whole, "-t"])
    run([*whole, "-s", "reload"])
    for words in ("validate", "reload"):
        (command,) = [line for line in printed() if f"caddy {words}" in line]
        here = front("caddy")
        path = command.removeprefix("sudo ").replace(
            "/etc/caddy/Caddyfile", str(here.file)
        )
        argv = [here.server.argv[0], *path.split()[1:]]
        if words == "reload":
            argv += ["--address", f"{HOST}:{here.trial.admin}"]
        run(argv)
