"""docs/learn/choosing.md: plain chunks, NDJSON, SSE and WebSocket, cell by cell."""

import asyncio
import inspect
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI, WebSocket
from fastapi.middleware.cors import CORSMiddleware
from fastapi.testclient import TestClient
from playwright.sync_api import Page
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from benchmarks import feeds as bench
from benchmarks.versions import feeds as versions
from cookbook.background import serving
from cookbook.catalog import ROOT
from docs.learn import feed_sse, feed_websocket
from tests.kit import costs, feeds
from tests.kit.nginx import nginx
from tests.kit.servers import START, WAIT, raw_get, until

pytestmark = pytest.mark.timeout(START + 30)

Change = feed_sse.Change
Changes = Callable[[int], AsyncIterator[Any]]
STATES = ["placed", "paid", "packed", "shipped"]
EVIL = {"Origin": "https://evil.example"}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with feeds.served() as running:
        yield running


def test_the_page_shows_what_a_new_run_gives() -> None:
    kept = feeds.RECORD.read_text("utf-8")
    assert kept == feeds.record(), "run make docs to record anew"


def test_both_programs_have_the_same_producer() -> None:
    parts = [inspect.getsource(m.changes) for m in (feed_sse, feed_websocket)]
    parts += [inspect.getsource(m.Change) for m in (feed_sse, feed_websocket)]
    assert parts[0] == parts[1]
    assert parts[2] == parts[3]
    assert feed_sse.STATES.items() == feed_websocket.STATES.items()


def test_both_send_the_same_changes_and_go_on_behind_the_last_one(url: str) -> None:
    for seen in range(4):
        with connect(f"{url}/feed?after={seen}".replace("http", "ws", 1)) as socket:
            by_socket = [Change.model_validate_json(text) for text in socket]
        fields = {"Last-Event-ID": str(seen)}
        text = httpx2.get(f"{url}/feed", headers=fields).text
        lines = [line for line in text.splitlines() if line.startswith("data: {")]
        by_sse = [Change.model_validate_json(line[6:]) for line in lines[:-1]]
        assert by_socket == by_sse
        assert [change.state for change in by_sse] == STATES[seen:]


def test_who_has_the_end_gets_204_and_any_other_id_begins_anew(
    url: str,
) -> None:
    def ask(last: str) -> httpx2.Response:
        fields = {b"Last-Event-ID": last.encode()}
        return httpx2.get(f"{url}/feed", headers=fields)

    assert ask("end").status_code == 204
    assert ask("").text == ask("no id").text == ask("\u0663").text
    assert ask("").text.count("event: change") == 4


def test_the_bytes_of_the_table_at_the_top(url: str) -> None:
    found = {}
    for name in ("text", "ndjson", "data", "feed"):
        found[name] = feeds.by_http(url, f"/{name}")[1][0].wire - len(feeds.FIRST)
    assert found == {"text": 6, "ndjson": 7, "data": 14, "feed": 34}
    assert len(feeds.by_websocket(url).frames[0]) - len(feeds.FIRST) == 2
    assert len(feeds.FIRST) == 35


def test_uvicorn_compresses_if_the_client_offers_it(url: str) -> None:
    offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n"
    assert b"permessage-deflate" in feeds.by_websocket(url, offer).head
    assert b"permessage-deflate" not in feeds.by_websocket(url).head


def test_only_a_websocket_carries_binary_data_and_both_directions() -> None:
    app = FastAPI()
    bytes_that_are_no_text = b"\xff\x00\xfe"

    @app.websocket("/")
    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_bytes(await socket.receive_bytes())

    with TestClient(app).websocket_connect("/") as socket:
        socket.send_bytes(bytes_that_are_no_text)
        assert socket.receive_bytes() == bytes_that_are_no_text


def test_curl_reads_the_feed_and_gets_404_from_the_websocket(
    url: str,
) -> None:
    curl = ["curl", "-sN"]
    got = subprocess.run([*curl, f"{url}/feed"], check=True, capture_output=True).stdout
    assert got.count(b"event: change\n") == 4
    with serving(feed_websocket.app) as only:
        got = subprocess.run([*curl, f"{only}/feed"], capture_output=True).stdout
    assert got == b'{"detail":"Not Found"}'


def test_the_command_websockets_shows_each_change_and_the_end(url: str) -> None:
    address = f"{url}/feed".replace("http", "ws", 1)
    # It leaves when its input ends, so the input stays open.
    with subprocess.Popen(
        [Path(sys.executable).with_name("websockets"), address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        printed = process.stdout.read()
    assert [f'"state":"{state}"' in printed for state in STATES] == [True] * 4
    assert printed.count("< {") == 4
    assert printed.endswith("Connection closed: 1000 (OK).\n")
    page = (ROOT / "docs/learn/choosing.md").read_text("utf-8")
    assert "and then `Connection closed: 1000 (OK).`" in page


def test_the_rules_of_cors_do_not_stop_a_websocket_but_our_check_does() -> None:
    app = FastAPI()
    app.add_middleware(CORSMiddleware, allow_origins=["https://shop.example"])

    @app.websocket("/feed")
    async def careless(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(f"cookie {socket.cookies['session']}")

    client = TestClient(app, cookies={"session": "7"})
    with client.websocket_connect("/feed", headers=EVIL) as socket:
        assert socket.receive_text() == "cookie 7"
    client = TestClient(feed_websocket.app)
    with (
        pytest.raises(WebSocketDisconnect) as refused,
        client.websocket_connect("/feed", headers=EVIL),
    ):
        raise AssertionError("it was accepted")
    assert refused.value.code == 1008
    with client.websocket_connect(
        "/feed?after=4", headers={"Origin": "http://testserver"}
    ):
        pass


def test_the_websocket_notices_that_its_client_has_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended: list[str] = []

    async def silent(_: int) -> AsyncIterator[Change]:
        try:
            yield Change(id=1, order=7, state="placed")
            await asyncio.Event().wait()
        finally:
            ended.append("generator")

    monkeypatch.setattr(feed_websocket, "changes", silent)
    with serving(feed_websocket.app) as url:
        with connect(f"{url}/feed".replace("http", "ws", 1)) as socket:
            assert "placed" in str(socket.recv(WAIT))
            assert ended == []
        until(lambda: ended == ["generator"], "the generator's end")


def test_uvicorn_pings_a_websocket_every_20_seconds() -> None:
    assert uvicorn.Config(feed_websocket.app).ws_ping_interval == 20


def test_nginx_passes_the_events_on_and_a_websocket_only_if_it_is_told(
    url: str,
) -> None:
    port = url.rpartition(":")[2]
    told = (ROOT / "docs/learn/feed_nginx.conf").read_text("utf-8")
    bare = "location / { proxy_pass http://127.0.0.1:8000; }"
    with nginx(bare.replace("8000", port)) as front:
        with raw_get(front.port, "/feed") as answer:
            assert answer.rest().count(b"event: change\n") == 4
        with (
            pytest.raises(InvalidStatus) as refused,
            connect(f"ws://127.0.0.1:{front.port}/feed"),
        ):
            pass
        # The application got a common GET, and answers with its feed of events.
        assert refused.value.response.status_code != 101
    with nginx(told.replace("8000", port)) as front:
        with connect(f"ws://127.0.0.1:{front.port}/feed") as socket:
            assert len(list(socket)) == 4
        with raw_get(front.port, "/feed") as answer:
            assert answer.rest().count(b"event: change\n") == 4


# --- In a browser ---------------------------------------------------------------------

CLIENT = """async ([name, source]) => {
    const blob = new Blob([source], { type: "text/javascript" });
    const { listen } = await import(URL.createObjectURL(blob));
    window[name] = [];
    listen((change) => window[name].push(change.state));
}"""
SOON = """() => {
    const real = window.setTimeout;
    window.setTimeout = (call) => real(call, 0);
}"""


def quick_retry(app: Callable[..., Any]) -> Callable[..., Any]:
    """Tell a browser to connect again after 10 ms, so that no test waits."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def told(message: Message) -> None:
            if message["type"] == "http.response.body" and message["body"]:
                body = b"retry: 10\n" + message["body"]
                message = {**message, "body": body}
            await send(message)

        events = scope["type"] == "http" and scope["path"] == "/feed"
        await app(scope, receive, told if events else send)

    return wrapped


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let each feed break off after two changes, once; list which ones have begun."""
    begun: list[str] = []

    def breaking(name: str, original: Changes) -> Changes:
        async def changes(after: int) -> AsyncIterator[Change]:
            begun.append(name)
            first = begun.count(name) == 1
            async for change in original(after):
                yield change
                if first and change.id == 2:
                    raise RuntimeError("on purpose")

        return changes

    for name, module in (("feed_sse", feed_sse), ("feed_websocket", feed_websocket)):
        monkeypatch.setattr(module, "PAUSE", 0)
        monkeypatch.setattr(module, "changes", breaking(name, module.changes))
    return begun


def test_both_pages_show_each_change_once_although_the_feed_breaks_off(
    page: Page, page_errors: list[str], cut: list[str]
) -> None:
    with serving(quick_retry(feeds.both)) as url:
        page.goto(f"{url}/openapi.json")
        page.evaluate(SOON)
        for name in ("feed_sse", "feed_websocket"):
            source = (ROOT / f"docs/learn/{name}.js").read_text("utf-8")
            page.evaluate(CLIENT, [name, source])
            page.wait_for_function(f"window.{name}.length >= 4")
            assert page.evaluate(f"window.{name}") == STATES
            assert cut.count(name) == 2
    page_errors.clear()  # The browser reports the connection that broke off.


def test_of_the_two_only_event_source_connects_again_by_itself(
    page: Page, page_errors: list[str], cut: list[str]
) -> None:
    with serving(quick_retry(feeds.both)) as url:
        page.goto(f"{url}/openapi.json")
        page.evaluate("""() => {
            window.ends = 0;
            const address = location.origin.replace("http", "ws");
            const socket = new WebSocket(`${address}/feed`);
            socket.onclose = () => ends++;
        }""")
        page.wait_for_function("ends === 1")
        page.evaluate("window.source = new EventSource('/feed')")
        until(lambda: cut.count("feed_sse") == 2, "the second feed of events")
        page.evaluate("source.close()")
        assert cut.count("feed_websocket") == 1
    page_errors.clear()


def test_six_feeds_make_a_fetch_wait_but_no_websocket(
    page: Page, page_errors: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def endless(_: int) -> AsyncIterator[Change]:
        yield Change(id=1, order=7, state="placed")
        await asyncio.Event().wait()

    async def noted(scope: Scope, receive: Receive, send: Send) -> None:
        asked.append(scope.get("path", ""))
        await feeds.both(scope, receive, send)

    for module in (feed_sse, feed_websocket):
        monkeypatch.setattr(module, "changes", endless)
    monkeypatch.setattr(feed_sse, "PAUSE", 0)  # of `/ndjson`, which ends
    with serving(noted) as url:
        page.goto(f"{url}/openapi.json")
        page.evaluate("""() => {
            window.got = { events: 0, messages: 0, answers: 0 };
            window.sources = [];
            for (let number = 0; number < 6; number++) {
                const source = new EventSource("/feed");
                source.addEventListener("change", () => got.events++);
                sources.push(source);
            }
        }""")
        page.wait_for_function("got.events === 6")
        page.evaluate("""() => {
            fetch("/ndjson").then((r) => r.text()).then(() => got.answers++);
            window.sockets = [];
            const address = location.origin.replace("http", "ws");
            for (let number = 0; number < 20; number++) {
                const socket = new WebSocket(`${address}/feed`);
                socket.onmessage = () => got.messages++;
                sockets.push(socket);
            }
        }""")
        page.wait_for_function("got.messages === 20")
        assert "/ndjson" not in asked
        page.evaluate("sources[0].close()")
        page.wait_for_function("got.answers === 1")
        page.evaluate(
            "sources.forEach(s => s.close()); sockets.forEach(s => s.close())"
        )
    page_errors.clear()  # Streams may break off as the server ends.


def test_a_page_that_is_refused_gets_1006_and_no_reason(
    page: Page, page_errors: list[str]
) -> None:
    with serving(feed_websocket.app) as url:
        page.goto("data:text/html,another origin")
        closed = page.evaluate(
            """address => new Promise(resolve => {
                const socket = new WebSocket(address);
                socket.onclose = (event) => resolve([event.code, event.reason]);
            })""",
            f"{url}/feed".replace("http", "ws", 1),
        )
    assert closed == [1006, ""]
    page_errors.clear()  # the refusal, which the browser reports


# --- What it costs --------------------------------------------------------------------


def test_the_benchmark_reads_what_each_format_sends() -> None:
    with serving(versions.app) as url:
        found = bench.measure(url, os.getpid(), 50, 1)
        assert set(found) == set(costs.EVENT)


def test_a_feed_that_is_not_whole_does_not_count() -> None:
    with serving(feeds.both) as url, pytest.raises(ValueError, match="not 7"):
        bench.read(url, "ndjson", 7)


def test_the_table_of_costs_says_what_the_page_says() -> None:
    found = costs.feeds()
    assert max(found, key=lambda name: found[name]) == "sse"
    times = {
        n: f"{costs.short(v / found['plain'])}{costs.TIMES}" for n, v in found.items()
    }
    page = (ROOT / "docs/learn/choosing.md").read_text("utf-8")
    by_hand = ["plain", "ndjson-by-hand", "sse-by-hand"]
    by_fastapi = ["ndjson", "sse", "websocket"]
    assert f"by hand | {' | '.join(times[n] for n in by_hand)} | " in page
    assert f" | {' | '.join(times[n] for n in by_fastapi)} |\n" in page
