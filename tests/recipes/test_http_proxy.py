"""docs/recipes/http_proxy.md: every claim the page makes, proved against the recipe."""

import asyncio
import gzip
import inspect
import json
import socket
from collections.abc import Iterator, Mapping
from typing import Any

import httpx2
import pytest
import uvicorn
from fastapi.testclient import TestClient
from starlette.types import Receive, Scope, Send

from recipes import http_proxy
from recipes.http_proxy import app
from tests.kit.asgi import Run, drive, note
from tests.kit.servers import WAIT, free_port
from tests.servers.upstream_http_proxy import Asked, Upstream, upstream

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ONE, TWO, END = b"3\r\none\r\n", b"3\r\ntwo\r\n", b"0\r\n\r\n"


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Upstream]:
    """Run the service `shop`."""
    with upstream() as service:
        monkeypatch.setenv("SHOP_URL", service.url)
        yield service


@pytest.fixture
def client(shop: Upstream) -> Iterator[TestClient]:
    """Give a client of the recipe, which passes the shop on."""
    assert shop.asked == []
    with TestClient(app, follow_redirects=False) as opened:
        yield opened


def answer(status: str, *fields: str, body: bytes = b"") -> bytes:
    """Write a response with a length."""
    length = [] if any("ength" in field for field in fields) else [len(body)]
    lines = [f"HTTP/1.1 {status}", *fields, *(f"Content-Length: {n}" for n in length)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def said_no(run: Run, status: int) -> str:
    """Check that a problem is told in the format of RFC 9457, and give its detail."""
    assert (run.status, run.error) == (status, None)
    assert run.headers["content-type"] == "application/problem+json"
    told: dict[str, Any] = json.loads(run.body)
    assert told.keys() == {"title", "status", "detail"}
    assert told["status"] == status
    assert told["title"][0].isupper()
    detail: str = told["detail"]
    return detail


# As it arrives


def test_a_chunk_is_passed_on_before_the_service_makes_the_next(shop: Upstream) -> None:
    shop.says(CHUNKED + ONE, TWO + END)
    # Without `go` the second part is never sent.
    run = drive(app, "/shop/x", disconnect_at=1)
    assert (run.status, run.chunks) == (200, [b"one"])


def test_every_chunk_of_the_service_is_a_chunk_of_ours(shop: Upstream) -> None:
    shop.says(CHUNKED + ONE + TWO + END)
    run = drive(app, "/shop/x")
    assert run.chunks == [b"one", b"two"]
    assert run.journal[-2:] == ["end", "returned"]


def test_its_chunks_may_be_cut_anywhere(shop: Upstream) -> None:
    whole = CHUNKED + ONE + TWO + END

    def drip(_: object, to: socket.socket) -> None:
        to.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(len(whole)):
            to.sendall(whole[at : at + 1])

    shop.does(drip)
    run = drive(app, "/shop/x")
    assert run.body == b"onetwo"
    assert "end" in run.journal


def test_a_client_that_stops_reading_stops_the_service(shop: Upstream) -> None:
    sent = 0

    def flood(_: object, to: socket.socket) -> None:
        nonlocal sent
        to.settimeout(0.3)
        to.sendall(CHUNKED)
        while True:
            to.sendall(b"10000\r\n" + bytes(0x10000) + b"\r\n")
            sent += 0x10000

    shop.does(flood)
    run = drive(
        app, "/shop/x", stall_at=3, leave_after=lambda: shop.wait().gone.wait(WAIT)
    )
    assert run.status == 200
    # What the two sockets between us hold, not more.
    assert sent < 16_000_000


# The status and the fields


@pytest.mark.parametrize(
    ("status", "fields"),
    [
        ("200 OK", {"etag": '"v1"', "last-modified": "Sat, 21 Nov 2026 15:00:00 GMT"}),
        ("201 Created", {"content-type": "application/json"}),
        ("206 Partial Content", {"content-range": "bytes 0-2/9"}),
        ("404 Not Found", {"content-type": "text/plain"}),
        ("416 Range Not Satisfiable", {"content-range": "bytes */9"}),
        ("429 Too Many Requests", {"retry-after": "7"}),
        ("503 Service Unavailable", {"cache-control": "no-store"}),
        ("599 Odd", {"accept-ranges": "bytes", "vary": "accept, origin"}),
    ],
)
def test_the_status_and_what_describes_the_body_pass(
    shop: Upstream, status: str, fields: Mapping[str, str]
) -> None:
    lines = [f"{name.title()}: {value}" for name, value in fields.items()]
    shop.says(answer(status, *lines, body=b"tea"))
    run = drive(app, "/shop/x")
    assert (run.status, run.body) == (int(status[:3]), b"tea")
    assert dict(run.headers) == {**fields, "content-length": "3"}


def test_what_asks_for_a_part_or_a_newer_version_passes(shop: Upstream) -> None:
    asked = {
        "range": "bytes=5-",
        "if-range": '"v1"',
        "if-none-match": '"v1", W/"v2"',
        "if-modified-since": "Sat, 21 Nov 2026 15:00:00 GMT",
        "if-match": "*",
        "if-unmodified-since": "Sat, 21 Nov 2026 15:00:00 GMT",
        "accept": "text/csv",
        "accept-language": "de",
        "user-agent": "tea/1",
        "last-event-id": "7",
        "cache-control": "no-cache",
    }
    drive(app, "/shop/x", headers=asked)
    told = shop.asked[0].fields
    assert {name: told.get(name) for name in asked} == asked


@pytest.mark.parametrize("status", ["304 Not Modified", "204 No Content"])
@pytest.mark.parametrize("length", ["Content-Length: 9", "ETag: length"])
def test_an_answer_without_a_body_passes_with_or_without_a_length(
    shop: Upstream, status: str, length: str
) -> None:
    shop.says(answer(status, 'ETag: "v1"', length))
    run = drive(app, "/shop/x")
    assert (run.status, run.chunks, run.error) == (int(status[:3]), [], None)
    assert "content-length" not in run.headers
    assert run.headers["etag"] == '"v1"'


def test_head_passes_with_the_length_that_a_get_would_have(shop: Upstream) -> None:
    shop.says(answer("200 OK", "Content-Length: 9", 'ETag: "v1"'))
    run = drive(app, "/shop/x", method="HEAD")
    assert shop.asked[0].head.startswith("HEAD /x ")
    assert (run.headers["content-length"], run.chunks) == ("9", [])
    assert run.journal[-2:] == ["end", "returned"]


HOP = ["connection", "keep-alive", "proxy-authenticate", "proxy-authorization"]
HOP += ["proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"]


def test_no_field_of_one_hop_is_passed_on_to_the_service(
    shop: Upstream, client: TestClient
) -> None:
    """Attack: Header fields of one hop: none reaches the service."""
    sent = dict.fromkeys(set(HOP) - {"transfer-encoding"}, "tea")
    sent["connection"] = "close, Range,\tX-Tea"
    client.get("/shop/x", headers={**sent, "Range": "bytes=0-", "X-Tea": "1"})
    told = shop.asked[0].fields
    assert not told.keys() & {*HOP, "range", "x-tea"}


def test_no_field_of_one_hop_is_passed_on_to_the_client(shop: Upstream) -> None:
    lines = [f"{name}: tea" for name in set(HOP) - {"connection", "transfer-encoding"}]
    named = ["Connection: ETag", "connection: close,\tVary ,x", 'ETag: "1"', "vary: a"]
    shop.says(answer("200 OK", *lines, *named, "Age: 1"))
    assert dict(drive(app, "/shop/x").headers) == {"age": "1", "content-length": "0"}


def test_neither_cookies_nor_credentials_nor_forged_addresses_reach_the_service(
    shop: Upstream, client: TestClient
) -> None:
    """Attack: Cookies, credentials and forged addresses: none reaches the service."""
    names = ["Cookie", "Authorization", "X-Forwarded-For", "Forwarded", "X-Real-IP"]
    names += ["X-Forwarded-Host", "X-Original-URL", "X-HTTP-Method-Override", "Origin"]
    client.get("/shop/x", headers=dict.fromkeys(names, "ours"))
    assert "ours" not in shop.asked[0].head


def test_the_service_sets_no_cookie_and_no_rule_for_our_site(shop: Upstream) -> None:
    """Attack: The service sends cookies and rules: none reaches the client."""
    names = ["Set-Cookie", "Strict-Transport-Security", "Clear-Site-Data", "Refresh"]
    names += ["Access-Control-Allow-Origin", "Location", "Server", "Date", "Alt-Svc"]
    shop.says(answer("200 OK", *(f"{name}: theirs" for name in names)))
    assert dict(drive(app, "/shop/x").headers) == {"content-length": "0"}


def test_what_one_client_gets_is_never_sent_for_the_next(
    shop: Upstream, client: TestClient
) -> None:
    """Attack: The service's cookie for one client: never sent for another."""
    shop.says(answer("200 OK", "Set-Cookie: session=ada; Path=/"))
    for _ in range(2):
        client.get("/shop/x")
    assert ["cookie" in asked.fields for asked in shop.asked] == [False, False]


def test_nothing_is_asked_for_that_the_client_did_not_ask_for(shop: Upstream) -> None:
    drive(app, "/shop/x")
    host = shop.url.removeprefix("http://")
    assert shop.asked[0].fields == {"host": host, "via": "1.1 http_proxy"}


def test_compressed_bytes_pass_as_they_are_with_their_encoding(
    shop: Upstream, client: TestClient
) -> None:
    packed = gzip.compress(b"tea" * 1000)
    shop.says(answer("200 OK", "Content-Encoding: gzip", body=packed))
    run = drive(app, "/shop/x")
    assert run.body == packed
    assert run.headers["content-length"] == str(len(packed))
    assert client.get("/shop/x").content == b"tea" * 1000


def test_a_field_that_comes_twice_passes_twice(shop: Upstream) -> None:
    shop.says(answer("200 OK", "Vary: accept", "Cache-Control: private", "Vary: range"))
    assert drive(app, "/shop/x").headers.getlist("vary") == ["accept", "range"]


@pytest.mark.parametrize("code", [1, 8, 10 + 1, 31, 127])
def test_a_field_that_a_server_would_refuse_to_send_is_left_out(
    shop: Upstream, code: int
) -> None:
    shop.says(answer("200 OK", f'ETag: "a{chr(code)}b"', "Age: 1"))
    run = drive(app, "/shop/x")
    assert run.status in {200, 502}
    assert not any(chr(code) in value for value in run.headers.values())


def test_a_tab_in_a_field_passes(shop: Upstream) -> None:
    shop.says(answer("200 OK", "Vary: a,\tb"))
    assert drive(app, "/shop/x").headers["vary"] == "a,\tb"


def test_the_length_of_a_chunked_answer_is_left_out(shop: Upstream) -> None:
    shop.says(
        answer("200 OK", "Transfer-Encoding: chunked", "Content-Length: 99") + ONE + END
    )
    run = drive(app, "/shop/x")
    assert (run.body, "content-length" in run.headers) == (b"one", False)


# The way of a request


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "GET"])
def test_a_method_passes_with_its_body_and_its_length(
    shop: Upstream, method: str
) -> None:
    headers = {"content-type": "application/json", "content-encoding": "identity"}
    drive(app, "/shop/x", method=method, headers=headers, body=b'{"tea": 1}')
    asked = shop.asked[0]
    assert asked.head.startswith(f"{method} /x HTTP/1.1")
    assert asked.body == b'{"tea": 1}'
    assert asked.fields["content-length"] == "10"
    assert asked.fields["content-type"] == "application/json"
    assert asked.fields["content-encoding"] == "identity"
    assert "transfer-encoding" not in asked.fields


def test_a_body_without_a_length_is_passed_on_in_chunks(
    shop: Upstream, client: TestClient
) -> None:
    client.post("/shop/x", content=iter([b"one", b"two"]))
    asked = shop.asked[0]
    assert asked.fields["transfer-encoding"] == "chunked"
    assert "content-length" not in asked.fields
    assert asked.body.endswith(END)


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_a_request_without_a_body_is_passed_on_without_one(
    shop: Upstream, method: str
) -> None:
    drive(app, "/shop/x", method=method)
    assert not shop.asked[0].fields.keys() & {"content-length", "transfer-encoding"}


@pytest.mark.parametrize(
    ("asked", "passed"),
    [
        ("/shop/", "/"),
        ("/shop/orders/", "/orders/"),
        ("/shop/orders/7.csv?rows=5&x=a%2Fb", "/orders/7.csv?rows=5&x=a%2Fb"),
        ("/shop/a%20b/caf%C3%A9", "/a%20b/caf%C3%A9"),
        ("/shop/x?next=http://evil.example/../", "/x?next=http://evil.example/../"),
        ("/shop/@evil.example:80/x", "/@evil.example:80/x"),
        ("/shop/a:b@c;d=e,f'()!$&*+~_.-", "/a:b@c;d=e,f'()!$&*%2B~_.-"),
        ("/shop/.well-known/x...y/..z", "/.well-known/x...y/..z"),
        ("/shop/x?", "/x"),
        ("/shop/a%3Fb%23c", "/a%3Fb%23c"),
        ("/shop/http:%3Fx", "/http:%3Fx"),
    ],
)
def test_path_and_query_arrive_as_they_were_meant(
    shop: Upstream, asked: str, passed: str
) -> None:
    drive(app, asked)
    sent = shop.asked[0].target
    assert sent.replace("+", "%2B") == passed


def test_the_service_may_be_below_a_path_of_its_own(
    shop: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    for prefix in ("/api/v1", "/api/v1/"):
        monkeypatch.setenv("SHOP_URL", shop.url + prefix)
        drive(app, "/shop/orders")
    assert [asked.target for asked in shop.asked] == ["/api/v1/orders"] * 2


UNSAFE = [
    *("..", "../x", "a/..", "a/../b", ".", "a/.", "./a", "..;/x", "a/..;b=1/c", ".;"),
    *("%2e%2e/x", "%2E%2E", "a/%2e/b", ".%2e/x", "%2e%2e%2fx", "a%2fb", "a%2Fb"),
    *("/evil.example/x", "//evil", "a//b", "%2f%2fevil", "a//"),
    *("..\\x", "a\\b", "%5c%5cevil", "a%5Cb"),
    *("a%0d%0aHost:%20evil", "a%0ab", "a%0db", "a%00b", "a%09b", "a%1fb", "a%7fb"),
    *("%252e%252e/x", "a%2525", "100%25"),
    *("a%ffb", "%c0%ae%c0%ae/x", "%ed%a0%80"),
]


@pytest.mark.parametrize("path", UNSAFE)
def test_a_path_that_servers_may_take_for_another_is_refused(
    shop: Upstream, path: str
) -> None:
    """Attack: A path that two servers read differently: 400, nobody is asked."""
    run = drive(app, f"/shop/{path}")
    # A line feed is no part of a path to the router: it answers first.
    said_no(run, 404 if "%0a" in path else 400)
    assert shop.connections == 0


@pytest.mark.parametrize(
    "query", [b"x=\xc3\xa9", b"x=a b", b"x=a\r\nHost: evil", b"a\0b"]
)
def test_a_query_that_is_no_http_is_refused(shop: Upstream, query: bytes) -> None:
    async def raw(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["query_string"] = query
        await app(scope, receive, send)

    said_no(drive(raw, "/shop/x"), 400)
    assert shop.asked == []


@pytest.mark.parametrize(
    "name",
    ["127.0.0.1:8002", "http:", "Shop", "nobody", "shop%00", "shop@evil.example", "*"],
)
def test_a_service_that_is_not_on_the_list_is_not_asked(
    shop: Upstream, name: str
) -> None:
    said_no(drive(app, f"/{name}/x"), 404)
    assert shop.connections == 0


def test_an_address_in_the_query_leads_nowhere(shop: Upstream) -> None:
    """Attack: An address in query, path or Host (SSRF): it is never asked."""
    with upstream() as canary:
        for asked in (
            f"/shop/x?url={canary.url}",
            f"/shop/{canary.url.partition('//')[2]}",
        ):
            drive(app, asked, headers={"host": canary.url.removeprefix("http://")})
        assert (canary.connections, len(shop.asked)) == (0, 2)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_neither_followed_nor_passed_on(
    shop: Upstream, client: TestClient, status: int
) -> None:
    """Attack: The service redirects elsewhere: not followed, not passed on."""
    with upstream() as canary:
        shop.says(
            answer(f"{status} Found", f"Location: {canary.url}/secret", body=b"x")
        )
        refused = client.get("/shop/x")
        assert canary.connections == 0
    assert refused.status_code == 502
    assert refused.headers["content-type"] == "application/problem+json"
    assert "location" not in refused.headers
    # While the application goes on.
    assert shop.asked[0].gone.wait(WAIT)


@pytest.mark.parametrize("status", [300, 304])
def test_any_other_status_of_300_passes(shop: Upstream, status: int) -> None:
    shop.says(answer(f"{status} X"))
    assert drive(app, "/shop/x").status == status


# Where a name leads


class Connection:
    """A connection that leads to an address, as httpx2 shows it."""

    def __init__(self, *address: object) -> None:
        self.address, self.closed = address, False

    def get_extra_info(self, name: str) -> object:
        """Say where it leads."""
        assert name == "server_addr"
        return self.address

    async def aclose(self) -> None:
        """Hang up."""
        self.closed = True


def check_address(connection: Connection) -> None:
    """Let the recipe look at a new connection."""
    info = {"return_value": connection}
    asyncio.run(http_proxy.only_public("connection.connect_tcp.complete", info))


PRIVATE = ["127.0.0.1", "127.1.2.3", "0.0.0.0", "10.0.0.1", "172.16.0.1"]  # noqa: S104
PRIVATE += ["192.168.1.1", "169.254.169.254", "100.64.0.1", "192.0.0.1", "::1", "::"]
PRIVATE += ["fe80::1", "fe80::1%eth0", "fc00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1"]


@pytest.mark.parametrize("host", PRIVATE)
def test_a_public_service_is_not_asked_at_a_private_address(host: str) -> None:
    connection = Connection(host, 80, 0, 0)
    with pytest.raises(httpx2.ConnectError):
        check_address(connection)
    assert connection.closed


@pytest.mark.parametrize(
    "host", ["93.184.215.14", "::ffff:93.184.215.14", "2606:2800::1"]
)
def test_it_is_asked_at_a_public_one(host: str) -> None:
    connection = Connection(host, 80)
    check_address(connection)
    assert not connection.closed


def test_no_other_step_of_a_request_is_looked_at() -> None:
    asyncio.run(http_proxy.only_public("connection.connect_tcp.started", {}))
    asyncio.run(http_proxy.only_public("http11.send_request_headers.complete", {}))


@pytest.fixture
def rebound(shop: Upstream, monkeypatch: pytest.MonkeyPatch) -> Upstream:
    """Let the name of a partner lead to a service inside, whatever it led to before."""
    real = socket.getaddrinfo

    def resolve(host: str | bytes, *rest: int, **more: int) -> object:
        inside = (
            "127.0.0.1" if host in ("partner.example", b"partner.example") else host
        )
        return real(inside, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setenv("PARTNER_URL", f"http://partner.example:{shop.port}")
    return shop


def test_a_name_that_leads_inside_is_refused_before_a_byte_is_sent(
    rebound: Upstream,
) -> None:
    """Attack: A public name leads inside (DNS rebinding): no byte is sent."""
    said_no(drive(app, "/partner/secret"), 502)
    assert (rebound.connections, rebound.asked) == (1, [])
    assert rebound.hung_up.acquire(timeout=WAIT)


def test_a_service_of_your_own_may_be_inside(
    rebound: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_URL", f"http://partner.example:{rebound.port}")
    assert drive(app, "/shop/x").status == 200


def test_what_the_environment_says_of_proxies_is_not_asked(
    shop: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    with upstream() as canary:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, canary.url)
        assert drive(app, "/shop/x").status == 200
        assert (canary.connections, shop.connections) == (0, 1)


# No response


def test_a_service_that_is_not_there_is_a_502(
    shop: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("SHOP_URL", f"http://127.0.0.1:{port}")
    detail = said_no(drive(app, "/shop/x"), 502)
    assert str(port) not in detail
    assert shop.asked == []


def test_a_name_that_nobody_knows_is_a_502(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_URL", "http://nobody.invalid")
    said_no(drive(app, "/shop/x"), 502)


BROKEN = [
    b"",
    b"HTTP/1.1 200 OK\r\nContent-",
    b"tea\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: tea\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nETag : 1\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: tea\r\n\r\n",
    b"HTTP/1.1 600 Tea\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 999 Tea\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"X-Tea: tea\r\n" * 20_000,
]


@pytest.mark.parametrize("said", BROKEN, ids=range(len(BROKEN)))
def test_a_service_that_answers_nonsense_is_a_502(shop: Upstream, said: bytes) -> None:
    shop.says(said, close=True)
    said_no(drive(app, "/shop/x"), 502)


def test_what_comes_before_the_answer_is_left_out(shop: Upstream) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    shop.says(early + answer("200 OK", body=b"tea"))
    run = drive(app, "/shop/x")
    assert (run.status, run.body) == (200, b"tea")


def test_a_connection_that_does_not_open_is_a_504(
    shop: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_proxy, "CONNECT", 0.05)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        # Linux keeps one more than it was told; whoever comes then gets no answer.
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        monkeypatch.setenv("SHOP_URL", f"http://127.0.0.1:{port}")
        said_no(drive(app, "/shop/x"), 504)
        for one in waiting:
            one.close()
    assert shop.connections == 0


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\n"])
def test_a_service_that_says_nothing_in_its_time_is_a_504(
    shop: Upstream, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(http_proxy, "FIRST_BYTE", 1.0)  # seconds, also to connect
    shop.says(said)
    said_no(drive(app, "/shop/x"), 504)
    assert shop.asked[0].gone.wait(WAIT)


def test_dripping_headers_do_not_buy_more_time(
    shop: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack: The service drips its head byte by byte: 504 when its time is over."""
    monkeypatch.setattr(http_proxy, "FIRST_BYTE", 0.1)

    def drip(asked: Asked, to: socket.socket) -> None:
        to.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        while not asked.gone.wait(0.01):
            to.sendall(b"x")

    shop.does(drip)
    said_no(drive(app, "/shop/x"), 504)


def test_a_time_for_the_whole_holds_before_the_headers_too(
    shop: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_proxy, "TOTAL", 0.05)
    shop.says(b"")
    said_no(drive(app, "/shop/x"), 504)


def test_too_many_open_requests_are_a_503(
    shop: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_proxy, "LIMITS", httpx2.Limits(max_connections=1))
    monkeypatch.setattr(http_proxy, "CONNECT", 0.5)
    shop.says(CHUNKED + ONE, TWO + END)
    with TestClient(app) as client, client.stream("GET", "/shop/x") as first:
        assert first.status_code == 200
        refused = client.get("/shop/x")
        assert refused.status_code == 503
        assert refused.headers["content-type"] == "application/problem+json"
        shop.go()
        assert first.read() == b"onetwo"


# A response that breaks off


CUT = [
    (answer("200 OK", "Content-Length: 9") + b"one", False),
    (answer("200 OK", "Content-Length: 9") + b"one", True),
    (CHUNKED + ONE, False),
    (CHUNKED + ONE, True),
    (CHUNKED + ONE + b"9\r\ntw", False),
    (CHUNKED + ONE + b"tea\r\n", False),
]


@pytest.mark.parametrize(("said", "reset"), CUT)
def test_an_answer_that_breaks_off_breaks_off_for_the_client_too(
    shop: Upstream, said: bytes, reset: bool
) -> None:
    shop.says(said, b"", close=not reset, reset=reset)
    shop.go()
    run = drive(app, "/shop/x")
    assert isinstance(run.error, httpx2.NetworkError | httpx2.ProtocolError)
    assert (run.status, "end" in run.journal) == (200, False)
    assert b"onetw".startswith(run.body)


def test_what_ends_with_the_connection_ends_well(shop: Upstream) -> None:
    # Without a length and without chunks there is no way to tell.
    shop.says(b"HTTP/1.0 200 OK\r\n\r\none", close=True)
    run = drive(app, "/shop/x")
    assert (run.body, run.journal[-2:]) == (b"one", ["end", "returned"])


@pytest.mark.parametrize("limit", ["IDLE", "TOTAL"])
def test_an_answer_that_comes_to_a_halt_is_cut(
    shop: Upstream, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(http_proxy, limit, 1.0)
    shop.says(CHUNKED + ONE)
    run = drive(app, "/shop/x")
    assert isinstance(run.error, TimeoutError)
    assert (run.chunks, "end" in run.journal) == ([b"one"], False)
    assert shop.asked[0].gone.wait(WAIT)


def test_a_client_that_never_reads_is_cut_when_the_time_is_over(
    shop: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack: A client never reads: it is cut when its time is over."""
    monkeypatch.setattr(http_proxy, "TOTAL", 1.0)
    shop.says(CHUNKED + ONE + TWO)
    run = drive(app, "/shop/x", stall_at=2)
    assert isinstance(run.error, TimeoutError)
    assert shop.asked[0].gone.wait(WAIT)


def test_each_chunk_has_its_own_time(
    shop: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    real = asyncio.timeout

    def noted(seconds: float) -> asyncio.Timeout:
        asked.append(seconds)
        return real(seconds)

    monkeypatch.setattr(asyncio, "timeout", noted)
    shop.says(CHUNKED + ONE + TWO + END)
    drive(app, "/shop/x")
    assert asked.count(http_proxy.IDLE) == 3
    assert asked.count(http_proxy.TOTAL) == 1
    assert asked.count(http_proxy.FIRST_BYTE) == 1


def test_the_limits_are_those_that_the_page_tells() -> None:
    seconds = (http_proxy.CONNECT, http_proxy.FIRST_BYTE, http_proxy.IDLE)
    assert (*seconds, http_proxy.TOTAL) == (5, 30, 60, 3600)
    assert http_proxy.UPLOAD == 100 * 2**20
    limits = http_proxy.LIMITS
    assert (limits.max_connections, limits.keepalive_expiry) == (1000, 2.0)
    assert uvicorn.Config(app).timeout_keep_alive == 5


def test_httpx2_is_told_of_the_limits(
    shop: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []
    send = httpx2.AsyncHTTPTransport.handle_async_request

    async def noted(
        self: httpx2.AsyncHTTPTransport, request: httpx2.Request
    ) -> httpx2.Response:
        told.append(request.extensions["timeout"])
        return await send(self, request)

    monkeypatch.setattr(httpx2.AsyncHTTPTransport, "handle_async_request", noted)
    drive(app, "/shop/x")
    # No limit for a read: the recipe has its own, and httpx2's would be five seconds.
    assert told == [{"connect": 5, "pool": 5, "write": 60}]
    assert httpx2.AsyncClient().timeout.read == 5
    assert shop.asked[0].target == "/x"


def test_the_list_is_the_one_that_the_page_tells() -> None:
    shop_, partner = http_proxy.UPSTREAMS["shop"], http_proxy.UPSTREAMS["partner"]
    assert shop_ == ("SHOP_URL", "http://127.0.0.1:8002", True)
    assert partner == ("PARTNER_URL", "https://api.example.com", False)


def test_a_variable_that_is_empty_changes_no_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SHOP_URL", "")
    with TestClient(app) as client:
        addresses = client.app_state["addresses"]
    assert addresses["shop"] == "http://127.0.0.1:8002"


# The client leaves


def test_the_service_is_left_when_the_client_leaves_before_its_headers(
    shop: Upstream,
) -> None:
    shop.says(b"")
    run = drive(app, "/shop/x", leave_after=shop.wait)
    assert shop.asked[0].gone.wait(WAIT)
    assert run.error is None


@pytest.fixture
def noted_closing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Note when the recipe closes the service's response, and when that is done."""
    close = httpx2.Response.aclose

    async def noted(self: httpx2.Response) -> None:
        caller = inspect.currentframe()
        await close(self)
        if caller and caller.f_back and caller.f_back.f_code.co_name == "open_response":
            note("closed")

    monkeypatch.setattr(httpx2.Response, "aclose", noted)


@pytest.mark.usefixtures("noted_closing")
@pytest.mark.parametrize("stall_at", [None, 1])
def test_the_service_is_left_when_the_client_leaves_in_mid_answer(
    shop: Upstream, stall_at: int | None
) -> None:
    shop.says(CHUNKED + ONE, TWO + END)
    run = drive(app, "/shop/x", stall_at=stall_at, disconnect_at=1)
    assert shop.asked[0].gone.wait(WAIT)
    assert "closed" in run.before("returned")


def test_the_service_is_left_when_the_server_gives_up(shop: Upstream) -> None:
    shop.says(CHUNKED + ONE, TWO + END)
    run = drive(app, "/shop/x", cancel_at=1)
    assert shop.asked[0].gone.wait(WAIT)
    assert isinstance(run.error, asyncio.CancelledError)


def test_an_answer_that_was_read_whole_leaves_its_connection_for_the_next(
    shop: Upstream, client: TestClient
) -> None:
    shop.says(answer("200 OK", body=b"tea"))
    for _ in range(3):
        assert client.get("/shop/x").text == "tea"
    assert [asked.connection for asked in shop.asked] == [0, 0, 0]


def test_one_that_was_not_does_not(shop: Upstream, client: TestClient) -> None:
    shop.says(CHUNKED + ONE, TWO + END)
    for _ in range(2):
        with client.stream("GET", "/shop/x") as response:
            assert next(response.iter_raw()) == b"one"
    assert [asked.connection for asked in shop.asked] == [0, 1]


def test_the_connections_end_with_the_application(shop: Upstream) -> None:
    drive(app, "/shop/x")
    assert shop.asked[0].gone.wait(WAIT)


# The body of a request


def test_a_body_that_is_too_large_is_refused(
    shop: Upstream, client: TestClient
) -> None:
    """Attack: A body announces too many bytes: 413, and the service does not get it."""
    big = http_proxy.UPLOAD + 1
    refused = client.post("/shop/x", content=b"x", headers={"Content-Length": str(big)})
    assert refused.status_code == 413
    assert refused.headers["content-type"].startswith("text/plain")
    assert not shop.asked or not shop.asked[0].whole


def test_so_is_one_that_does_not_say_how_large_it_is(
    shop: Upstream, client: TestClient
) -> None:
    piece = bytes(1024 * 1024)
    refused = client.post("/shop/x", content=(piece for _ in range(101)))
    assert refused.status_code == 413
    assert refused.headers["content-type"] == "application/problem+json"
    assert shop.asked[0].gone.wait(WAIT)
    assert not shop.asked[0].whole


def test_a_request_that_is_never_completed_is_a_408(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def never_whole(*_: object) -> httpx2.Response:
        raise TimeoutError

    monkeypatch.setattr(httpx2.AsyncHTTPTransport, "handle_async_request", never_whole)
    said_no(drive(app, "/shop/x"), 408)
