"""docs/recipes/http_proxy.md: its claims about real servers, byte by byte."""

import json
import re
import select
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from cookbook.catalog import ROOT
from tests.kit import clients, servers
from tests.kit.changed import changed
from tests.kit.nginx import nginx
from tests.kit.servers import WAIT, Answer, Server, need, raw_get, uvicorn
from tests.servers.upstream_http_proxy import Asked, Upstream, unchunked, upstream

pytestmark = pytest.mark.timeout(servers.START + 10)

APP = "recipes.http_proxy:app"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ONE, TWO, END = b"3\r\none\r\n", b"3\r\ntwo\r\n", b"0\r\n\r\n"
PAGE = ROOT / "docs/recipes/http_proxy.md"


@pytest.fixture(scope="module")
def service() -> Iterator[Upstream]:
    with upstream() as running:
        yield running


@pytest.fixture(scope="module")
def server(service: Upstream) -> Iterator[Server]:
    with uvicorn(APP, env={"SHOP_URL": service.url}, warm=True) as running:
        yield running


@pytest.fixture
def shop(service: Upstream) -> Upstream:
    """Give the service with an empty record."""
    service.asked.clear()
    service.says(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ntea")
    service.reads_bodies = True
    return service


@contextmanager
def raw(server: Server, request: bytes) -> Iterator[socket.socket]:
    """Send bytes, right or wrong, and give the connection."""
    with socket.create_connection((servers.HOST, server.port), WAIT) as connection:
        connection.sendall(request)
        yield connection


def status_of(server: Server, target: bytes, more: bytes = b"") -> int:
    """Ask for a target as it is, byte by byte; 0 if the server only hangs up."""
    lines = b"GET " + target + b" HTTP/1.1\r\nHost: tea\r\n" + more + b"\r\n"
    with raw(server, lines) as connection:
        first = connection.makefile("rb").readline()
    return int(first.split()[1]) if first else 0


ATTACKS = [
    *(b"/shop/../x", b"/shop/..", b"/shop/a/../../x", b"/shop/./x", b"/shop/..;/x"),
    *(b"/shop/%2e%2e/x", b"/shop/%2E%2E%2Fx", b"/shop/.%2e/x", b"/shop/%252e%252e/x"),
    *(b"/shop//canary/x", b"/shop/%2fcanary/x", b"/shop/%2f%2fcanary", b"//canary/x"),
    *(b"/shop/..\\x", b"/shop/\\\\canary\\x", b"/shop/%5c%5ccanary"),
    *(
        b"/shop/a%00",
        b"/shop/a\x00b",
        b"/shop/a%0d%0aX:%20y",
        b"/shop/a\rb",
        b"/shop/a b",
    ),
    *(b"/shop/\xff", b"/shop/%ff", b"/shop/a%c0%ae", b"/shop/a\x7fb", b"/shop/\x01"),
    *(b"/../shop", b"/%2e%2e/shop", b"/canary/x", b"/http://canary/x", b"/", b"*"),
    *(
        b"http://canary/x",
        b"canary:80",
        b"/canary:80/x",
        b"/shop@canary/x",
        b"/shop%2fx",
    ),
]


@pytest.mark.parametrize("target", ATTACKS, ids=repr)
def test_nothing_hostile_reaches_a_service(
    server: Server, shop: Upstream, target: bytes
) -> None:
    """Attack: A target of raw bytes, cleaned up by nobody: it reaches nobody."""
    with upstream() as canary:
        where = canary.url.removeprefix("http://").encode()
        status = status_of(server, target.replace(b"canary", where))
        # 307: the path only lacked its last slash.
        assert status in {0, 307, 400, 404}
        assert (canary.connections, shop.asked) == (0, [])


@pytest.mark.parametrize(
    "target", [b"/shop/@canary/x", b"/shop/x?u=http://canary/", b"http://canary/shop/x"]
)
def test_what_only_looks_hostile_goes_to_the_service(
    server: Server, shop: Upstream, target: bytes
) -> None:
    with upstream() as canary:
        where = canary.url.removeprefix("http://").encode()
        fields = (
            b"X-Forwarded-Host: " + where + b"\r\nForwarded: host=" + where + b"\r\n"
        )
        assert status_of(server, target.replace(b"canary", where), fields) == 200
        assert canary.connections == 0
    (asked,) = shop.asked
    assert asked.fields["host"] == shop.url.removeprefix("http://")


def test_a_query_with_bytes_that_are_no_ascii_sends_nothing_on(
    server: Server, shop: Upstream
) -> None:
    """Attack: A query of bytes that are no ASCII: nothing is sent on."""
    assert status_of(server, b"/shop/x?\xc3\xa9") in {0, 400}
    assert shop.asked == []


TWICE = b"POST /shop/x HTTP/1.1\r\nHost: t\r\n"


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"POST /shop/x HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /shop/y HTTP/1.1\r\n\r\n",
        b"POST /shop/x HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n"
        b"Content-Length: 4\r\n\r\nteas",
        TWICE + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        TWICE + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_a_request_with_two_ends_is_no_two_requests(
    server: Server, shop: Upstream, request_bytes: bytes
) -> None:
    """Attack: A request with two lengths (smuggling): no second request."""
    with raw(server, request_bytes) as connection:
        connection.shutdown(socket.SHUT_WR)
        connection.makefile("rb").read()
    assert all(asked.target == "/x" for asked in shop.asked)
    assert len(shop.asked) <= 1


def test_date_and_server_are_told_once(server: Server, shop: Upstream) -> None:
    shop.says(
        b"HTTP/1.1 200 OK\r\nDate: then\r\nServer: theirs\r\nContent-Length: 0\r\n\r\n"
    )
    with raw_get(server.port, "/shop/x") as answer:
        head = answer.head.lower()
    assert (head.count("\r\ndate:"), head.count("\r\nserver:")) == (1, 1)
    assert "theirs" not in head


# As it arrives


def test_a_chunk_is_read_before_the_service_sends_the_next(
    server: Server, shop: Upstream
) -> None:
    shop.says(CHUNKED + ONE, TWO, END)
    with raw_get(server.port, "/shop/x") as answer:
        assert answer.chunk() == b"one"
        shop.go()
        assert answer.chunk() == b"two"
        shop.go()
        assert answer.chunk() == b""


POST = b"POST /shop/x HTTP/1.1\r\nHost: tea\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_a_request_body_reaches_the_service_while_it_is_being_sent(
    server: Server, shop: Upstream
) -> None:
    with raw(server, POST + ONE) as connection:
        # The client sends the second chunk only now.
        assert unchunked(shop.wait_for_body(len(ONE)).body) == b"one"
        connection.sendall(TWO + END)
        assert Answer(connection).head.startswith("HTTP/1.1 200 OK\r\n")
    asked = shop.asked[0]
    assert (asked.whole, unchunked(asked.body)) == (True, b"onetwo")


@pytest.mark.parametrize("stays", [True, False])
def test_what_a_service_says_before_the_body_is_complete_comes_after_it(
    server: Server, shop: Upstream, stays: bool
) -> None:
    def refuse(_: Asked, to: socket.socket) -> None:
        to.sendall(b"HTTP/1.1 413 Too Much\r\nContent-Length: 3\r\n\r\ntea")
        if not stays:
            to.shutdown(socket.SHUT_RDWR)
            to.close()

    shop.reads_bodies = False
    shop.does(refuse)
    with raw(server, POST) as connection:
        shop.wait()
        connection.sendall(ONE)
        readable, _, _ = select.select([connection], [], [], 0.2)
        assert not (stays and readable)
        with suppress(OSError):
            connection.sendall(TWO + END)
        status = Answer(connection).head.split()[1]
    # A service that hangs up at once takes its answer away with it.
    assert status in ({"413"} if stays else {"413", "502"})


# Somebody leaves


LEAVE = pytest.mark.parametrize("leave", [Answer.close, Answer.abort])


@LEAVE
def test_the_service_is_left_in_mid_answer_as_soon_as_the_client_leaves(
    server: Server, shop: Upstream, leave: Callable[[Answer], None]
) -> None:
    shop.says(CHUNKED + ONE, TWO + END)
    with raw_get(server.port, "/shop/x") as answer:
        assert answer.chunk() == b"one"
        leave(answer)
        assert shop.asked[0].gone.wait(WAIT)


def test_it_is_left_before_its_headers_too(server: Server, shop: Upstream) -> None:
    shop.says(b"")
    with raw(server, b"GET /shop/x HTTP/1.1\r\nHost: tea\r\n\r\n") as connection:
        asked = shop.wait()
        connection.close()
        assert asked.gone.wait(WAIT)


def test_it_is_left_when_the_client_leaves_in_mid_upload(
    server: Server, shop: Upstream
) -> None:
    with raw(server, POST + ONE) as connection:
        asked = shop.wait_for_body(len(ONE))
        connection.close()
        assert asked.gone.wait(WAIT)
    assert not asked.whole
    assert "Traceback" not in server.output()


def test_it_is_left_when_the_client_has_sent_its_body_and_leaves(
    server: Server, shop: Upstream
) -> None:
    shop.says(b"")
    with raw(server, POST + ONE + END) as connection:
        asked = shop.wait_for_body(len(ONE + END))
        connection.close()
        assert asked.gone.wait(WAIT)
    assert asked.whole


def test_a_hundred_that_leave_hold_no_connection(
    server: Server, shop: Upstream
) -> None:
    """Attack: A hundred clients leave in mid-answer: no connection stays open."""
    shop.says(CHUNKED + ONE, TWO + END)
    for number in range(100):
        with raw_get(server.port, "/shop/x") as answer:
            answer.chunk()
            (Answer.abort if number % 2 else Answer.close)(answer)
    assert len(shop.asked) == 100
    assert all(asked.gone.wait(WAIT) for asked in shop.asked)


@pytest.fixture(scope="module")
def hasty(service: Upstream) -> Iterator[Server]:
    app = "tests.servers.hasty_http_proxy:app"
    with uvicorn(app, env={"SHOP_URL": service.url}, warm=True) as running:
        yield running


def test_a_client_that_stops_sending_gets_a_408(hasty: Server, shop: Upstream) -> None:
    with raw(hasty, POST + ONE) as connection:
        answer = Answer(connection)
        assert answer.head.startswith("HTTP/1.1 408 ")
    assert shop.asked[0].gone.wait(WAIT)


def test_a_service_that_stops_reading_is_a_504(hasty: Server, shop: Upstream) -> None:
    shop.reads_bodies = False

    def ignore(asked: Asked, _: socket.socket) -> None:
        asked.gone.wait(2)

    shop.does(ignore)
    head = b"POST /shop/x HTTP/1.1\r\nHost: tea\r\nContent-Length: 99999999\r\n\r\n"
    with raw(hasty, head) as connection:
        connection.setblocking(False)
        readable: list[socket.socket] = []
        while not readable:
            readable, writable, _ = select.select([connection], [connection], [], WAIT)
            assert readable or writable
            if writable and not readable:
                connection.send(bytes(65536))
        assert connection.recv(12) == b"HTTP/1.1 504"


def curl(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run curl, and give what it says."""
    program = shutil.which("curl") or need("curl", "apt-get install curl")
    command = [program, "-q", "-sS", *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=20
    )


@pytest.mark.parametrize(
    "head", [CHUNKED, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"]
)
def test_curl_exits_with_18_when_the_service_breaks_off(
    server: Server, shop: Upstream, head: bytes, tmp_path: Path
) -> None:
    shop.says(head + ONE, close=True)
    done = curl(f"{server.url}/shop/x", folder=tmp_path)
    assert (done.returncode, "one" in done.stdout) == (18, True)
    server.expect("httpx2.RemoteProtocolError")


def test_curl_gets_a_413_for_a_file_that_is_too_large(
    server: Server, shop: Upstream, tmp_path: Path
) -> None:
    with (tmp_path / "big").open("wb") as file:
        file.truncate(100 * 1024 * 1024 + 1)
    for more in ([], ["-H", "Transfer-Encoding: chunked"]):
        done = curl(
            "-w",
            "%{http_code}",
            "-T",
            "big",
            *more,
            f"{server.url}/shop/x",
            folder=tmp_path,
        )
        assert done.stdout.endswith("413")
    assert not any(asked.whole for asked in shop.asked)


# A real service: nginx


TEA = b"green tea\n" * 100_000


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("files")
    (folder / "tea.txt").write_bytes(TEA)
    # nginx packs nothing for a request with `Via`, unless it is told to.
    gzip = "gzip on; gzip_proxied any; gzip_types text/plain; default_type text/plain;"
    with nginx(f"root {folder}; {gzip}") as running:
        yield running


@pytest.fixture(scope="module")
def before_nginx(files: Server) -> Iterator[Server]:
    with uvicorn(APP, env={"SHOP_URL": files.url}, warm=True) as running:
        yield running


def told(url: str, folder: Path, *options: str) -> tuple[str, dict[str, str], bytes]:
    """Ask with curl; give the status, the fields that must not differ, and the body."""
    done = curl("-D", "head", "-o", "body", *options, url, folder=folder)
    assert done.returncode == 0, done.stderr
    first, *lines = (folder / "head").read_bytes().decode("latin-1").split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in lines if line)
    for name in ("date", "server", "connection", "transfer-encoding", "location"):
        fields.pop(name, None)
    body = b""
    if "--head" not in options and (folder / "body").exists():
        body = (folder / "body").read_bytes()
    (folder / "body").unlink(missing_ok=True)
    return first.split()[1], fields, body


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--head"],
        ["-H", "Range: bytes=5-20"],
        ["-H", "Range: bytes=-7"],
        ["-H", "Range: bytes=0-0,5-6"],
        ["-H", "Range: bytes=9999999-"],
        ["-H", "Accept-Encoding: gzip"],
        ["-H", 'If-None-Match: "ETAG"'],
        ["-H", "If-None-Match: *"],
        ["-H", "If-Modified-Since: Sat, 21 Nov 2099 15:00:00 GMT"],
        ["-H", 'If-Match: "tea"'],
        ["-H", 'If-Range: "ETAG"', "-H", "Range: bytes=5-20"],
        ["-H", 'If-Range: "tea"', "-H", "Range: bytes=5-20"],
        ["-X", "POST", "-d", "tea=1"],
        ["-X", "DELETE"],
    ],
    ids=" ".join,
)
def test_through_the_proxy_nginx_says_the_same(
    files: Server, before_nginx: Server, options: list[str], tmp_path: Path
) -> None:
    etag = told(f"{files.url}/tea.txt", tmp_path, "--head")[1]["etag"].strip('"')
    asked = [option.replace("ETAG", etag) for option in options]
    direct = told(f"{files.url}/tea.txt", tmp_path, *asked)
    passed = told(f"{before_nginx.url}/shop/tea.txt", tmp_path, *asked)
    if "multipart" in str(direct):  # It draws a new boundary for each answer.
        direct, passed = (
            (status, {}, re.sub(rb"--\d+", b"--", body))
            for status, _, body in (direct, passed)
        )
    assert passed == direct


def test_nginx_packs_nothing_for_a_proxy_until_it_is_told_to(tmp_path: Path) -> None:
    (tmp_path / "tea.txt").write_bytes(TEA)
    packing = "gzip on; gzip_types text/plain; default_type text/plain;"
    with (
        nginx(f"root {tmp_path}; {packing}") as files,
        uvicorn(APP, env={"SHOP_URL": files.url}, warm=True) as proxy,
    ):
        asked = ["-H", "Accept-Encoding: gzip"]
        direct = told(f"{files.url}/tea.txt", tmp_path, *asked)
        passed = told(f"{proxy.url}/shop/tea.txt", tmp_path, *asked)
    assert ("content-encoding" in direct[1], "content-encoding" in passed[1]) == (
        True,
        False,
    )


def test_curl_resumes_a_download_through_the_proxy(
    before_nginx: Server, tmp_path: Path
) -> None:
    (tmp_path / "tea.txt").write_bytes(TEA[:12_345])
    url = f"{before_nginx.url}/shop/tea.txt"
    assert curl("-C", "-", "-o", "tea.txt", url, folder=tmp_path).returncode == 0
    assert (tmp_path / "tea.txt").read_bytes() == TEA


# The page


@pytest.fixture(scope="module")
def plain_text() -> Iterator[Server]:
    with uvicorn("recipes.plain_text:app", warm=True) as running:
        yield running


@pytest.fixture(scope="module")
def before_plain_text(plain_text: Server) -> Iterator[Server]:
    with uvicorn(APP, env={"SHOP_URL": plain_text.url}, warm=True) as running:
        yield running


SLIP = ["Order 1 for Ada", "packed: green tea", "packed: tea pot", "packed: honey"]


@pytest.mark.parametrize("name", ["http_proxy.py", "http_proxy.mjs"])
def test_the_clients_print_each_line_as_it_comes(
    before_plain_text: Server, name: str, tmp_path: Path
) -> None:
    done = clients.run(name, before_plain_text.url, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [*SLIP, "Ready to ship", "complete"]


@pytest.mark.parametrize("name", ["http_proxy.py", "http_proxy.mjs"])
def test_the_clients_tell_a_cut_answer_from_a_whole_one(
    server: Server, shop: Upstream, name: str, tmp_path: Path
) -> None:
    shop.says(CHUNKED + b"a\r\nOrder 1\nOr\r\n", close=True)
    done = clients.run(name, server.url, tmp_path)
    assert done.returncode == 1
    assert "complete" not in done.stdout
    assert "broke off" in done.stderr


@pytest.mark.parametrize("name", ["http_proxy.py", "http_proxy.mjs"])
def test_the_clients_say_why_there_is_no_answer(name: str, tmp_path: Path) -> None:
    env = {"SHOP_URL": f"http://127.0.0.1:{servers.free_port()}"}
    with uvicorn(APP, env=env, warm=True) as alone:
        done = clients.run(name, alone.url, tmp_path)
    assert done.returncode == 1
    assert "502" in done.stderr
    assert "The service did not answer." in done.stderr


def test_break_it_a_service_that_may_not_be_inside_is_not_asked(
    plain_text: Server, tmp_path: Path
) -> None:
    folder = changed(
        tmp_path, "http_proxy", '8002", internal=True', '8002", internal=False'
    )
    env = {"SHOP_URL": plain_text.url}
    before = plain_text.output()
    with uvicorn(APP, env=env, cwd=folder) as broken:
        done = curl("-i", f"{broken.url}/shop/async/1", folder=tmp_path)
    head, _, body = done.stdout.partition("\n\n")
    assert head.startswith("HTTP/1.1 502 Bad Gateway\n")
    page = PAGE.read_text("utf-8")
    assert "`502 Bad Gateway`" in page
    assert f"`{json.loads(body)['detail']}`" in page
    assert plain_text.output() == before, "the service's log shows no request"
