"""docs/reading/browser.md: what a page reads, and when it comes back."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from fastapi.testclient import TestClient
from playwright.sync_api import Page, Request, Route, expect

from cookbook.catalog import ROOT
from recipes import chunk_framing, sse_basic, sse_resumable
from tests.kit import sse
from tests.kit.servers import START, Server, in_a_thread, uvicorn

pytestmark = pytest.mark.timeout(START + 30)

PAGE = (ROOT / "docs/reading/browser.md").read_text("utf-8")
TYPES = {".html": "text/html", ".mjs": "text/javascript", ".js": "text/javascript"}
LIVE = "/live/sse_resumable"  # where the site runs the recipe


class Outcomes(BaseHTTPRequestHandler):
    """Answers as the path says: a status, or `html`, `end` or `break`."""

    def do_GET(self) -> None:
        """Answer, and close the connection."""
        what = self.path.strip("/")
        self.send_response(int(what) if what.isdigit() else 200)
        kind = "html" if what in ("", "html") else "event-stream"
        self.send_header("Content-Type", f"text/{kind}")
        if what == "break":
            self.send_header("Content-Length", "1000")
        self.end_headers()
        if what in ("end", "break"):
            self.wfile.write(b"data: x\n\n")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@contextmanager
def outcomes() -> Iterator[str]:
    with in_a_thread(ThreadingHTTPServer(("127.0.0.1", 0), Outcomes)) as address:
        yield address


# Whether it gives up after an answer, and how the page's row for that begins.
ROWS = {"204": True, "404": True, "500": True, "html": True, "end": False}
ROWS |= {"break": False}
BEGINS = {"html": "a type other", "end": "a complete answer", "break": "a connection"}


def test_an_event_source_gives_up_as_the_page_says(
    page: Page, page_errors: list[str]
) -> None:
    states = """(paths) => Promise.all(paths.map((path) => new Promise((resolve) => {
        const source = new EventSource(path);
        source.onerror = () => {
          resolve(source.readyState === EventSource.CLOSED);
          source.close();
        };
    })))"""
    with outcomes() as url:
        page.goto(url)
        with page.expect_console_message(lambda said: "LENGTH_MISMATCH" in said.text):
            assert page.evaluate(states, list(ROWS)) == list(ROWS.values())
    page_errors.clear()  # Chromium reports each refusal, and the stream that broke.
    rows = dict.fromkeys(ROWS, "")
    for line in PAGE.splitlines():
        for name in ROWS:
            if line.startswith(f"| {BEGINS.get(name, name)} "):
                rows[name] = line.split("|")[2].strip()
    assert {name: row.startswith("gives up") for name, row in rows.items()} == ROWS


@pytest.fixture(scope="module")
def shop() -> Iterator[Server]:
    """Run the recipe whose feed goes on after a reconnect."""
    with uvicorn("recipes.sse_resumable:app") as running:
        yield running


def site(page: Page, server: Server) -> None:
    """Serve the clients beside the recipe, as the site does."""

    def file(route: Route) -> None:
        path = route.request.url.removeprefix(server.url).partition("?")[0]
        found = ROOT / f"docs{path}"
        body = found.read_text("utf-8").replace(LIVE, "")
        route.fulfill(body=body, content_type=TYPES[found.suffix])

    page.route("**/clients/*", file)
    page.route("**/assets/*", file)
    page.goto(f"{server.url}/clients/follow.html")


EVERY_SPLIT = """async ({ text, reader }) => {
  const follow = await import("/clients/follow.mjs");
  const bytes = new TextEncoder().encode(text);
  const read = async (...chunks) => {
    const found = [];
    const waiting = [...chunks];
    const body = new ReadableStream({
      pull(controller) {
        if (waiting.length) controller.enqueue(waiting.shift());
        else controller.close();
      },
    });
    for await (const one of follow[reader](body)) found.push(one);
    return JSON.stringify(found);
  };
  const results = new Set([await read(bytes)]);
  for (let at = 1; at < bytes.length; at += 1) {
    results.add(await read(bytes.slice(0, at), bytes.slice(at)));
  }
  results.add(await read(...Array.from(bytes, (byte) => Uint8Array.of(byte))));
  return [bytes.length, [...results].map((result) => JSON.parse(result))];
}"""


def test_events_are_read_wherever_the_stream_is_cut(
    page: Page, shop: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse_basic, "PAUSE", 0)
    with TestClient(sse_basic.app) as client:
        answer = client.get("/by-hand").text
    site(page, shop)
    size, results = page.evaluate(EVERY_SPLIT, {"text": answer, "reader": "events"})
    expected = [event._asdict() for event in sse.parse([answer.encode()]).events]
    assert size > 300
    assert len(expected) == 6
    assert results == [expected]


def test_lines_are_read_wherever_the_stream_is_cut(page: Page, shop: Server) -> None:
    with TestClient(chunk_framing.app) as client:
        answer = client.get("/orders.ndjson").text
    site(page, shop)
    size, results = page.evaluate(EVERY_SPLIT, {"text": answer, "reader": "lines"})
    assert size > len(answer), "a character of more than one byte is cut, too"
    assert results == [answer.splitlines()]
    assert "crème brûlée" in json.loads(results[0][1])["item"]


def test_a_last_line_without_its_end_is_given(page: Page, shop: Server) -> None:
    site(page, shop)
    _, results = page.evaluate(EVERY_SPLIT, {"text": "a\né", "reader": "lines"})
    assert results == [["a", "é"]]


FOLLOW = """async ({ url, stopAt, options }) => {
  const { follow } = await import("/clients/follow.mjs");
  const leaving = new AbortController();
  const events = [];
  const lost = [];
  const onLost = (reason) => lost.push(reason);
  const all = { ...options, signal: leaving.signal, wait: 1, onLost };
  let error = "";
  try {
    for await (const { event, data, id } of follow(url, all)) {
      events.push([event, data, id]);
      if (events.length === stopAt) leaving.abort();
    }
  } catch (caught) {
    error = `${caught.constructor.name}: ${caught.message}`;
  }
  return { events, lost, error };
}"""


def answers(page: Page, *given: dict[str, Any]) -> list[Request]:
    """Let the feed's first connections be answered so; give all requests."""
    asked: list[Request] = []
    waiting = list(given)

    def answer(route: Route) -> None:
        asked.append(route.request)
        if not waiting:
            route.fallback()
            return
        if (chosen := waiting.pop(0)) == {}:
            route.abort()
        else:
            route.fulfill(**{"content_type": "text/event-stream"} | chosen)

    page.route("**/events", answer)
    return asked


def test_it_comes_back_with_the_last_id_after_all_that_may_pass(
    page: Page, shop: Server, page_errors: list[str]
) -> None:
    site(page, shop)
    asked = answers(
        page,
        {"status": 503, "headers": {"Retry-After": "0"}},
        {"body": "id: één ✓\nretry: 2\ndata: a\n\nid: lost\ndata: b\n"},
        {},
        {"status": 502},
        {"body": "data: c\n\nid:\n\n"},
        {"body": "data: d\n\n"},
        {"status": 204},
    )
    got = page.evaluate(FOLLOW, {"url": "/events", "stopAt": 99, "options": {}})
    assert got["events"] == [
        ["message", "a", "één ✓"],
        ["message", "c", "één ✓"],
        ["message", "d", ""],
    ]
    assert got["error"] == ""
    assert len(got["lost"]) == 6
    assert got["lost"][0] == "The server answered 503."
    sent = [request.all_headers().get("last-event-id") for request in asked]
    wire = "één ✓".encode().decode("latin-1")
    assert sent in (
        [None, None, wire, wire, wire, None, None],
        [None, None, "één ✓", "één ✓", "één ✓", None, None],
    )
    page_errors.clear()  # Chromium reports the refusals.


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"status": 401}, "Refused: The server answered 401."),
        (
            {"content_type": "text/html"},
            "Refused: The server sent text/html instead of an event stream.",
        ),
    ],
)
def test_it_gives_up_where_another_attempt_is_useless(
    page: Page, shop: Server, page_errors: list[str], given: dict[str, Any], said: str
) -> None:
    site(page, shop)
    asked = answers(page, given)
    options = {"method": "POST", "body": "x", "headers": {"Authorization": "Bearer y"}}
    got = page.evaluate(FOLLOW, {"url": "/events", "stopAt": 99, "options": options})
    assert got["error"] == said
    assert len(asked) == 1
    assert asked[0].method == "POST"
    assert asked[0].post_data == "x"
    assert asked[0].all_headers()["authorization"] == "Bearer y"
    page_errors.clear()


def test_a_reader_starts_stops_and_goes_on_at_the_real_feed(
    page: Page, shop: Server
) -> None:
    site(page, shop)
    status = page.get_by_role("status")
    page.get_by_role("button", name="Start").click()
    expect(status).to_have_text("listening")
    page.get_by_role("button", name="Order tea").click()
    expect(page.locator("li").first).to_have_text('order {"id":7,"state":"placed"}')
    with page.expect_event("requestfailed") as failed:
        page.get_by_role("button", name="Stop").click()
    assert failed.value.url == f"{shop.url}/events"
    assert failed.value.failure == "net::ERR_ABORTED"
    expect(status).to_have_text("stopped")
    with page.expect_response("**/orders/7"):
        page.get_by_role("button", name="Order tea").click()
    with page.expect_request("**/events") as again:
        page.get_by_role("button", name="Start").click()
    assert re.fullmatch(r"\w+-\d", again.value.all_headers()["last-event-id"])
    expect(page.locator("li", has_text="placed")).to_have_count(2)
    page.evaluate("fetch('/end', { method: 'POST' })")
    expect(status).to_have_text("complete")
    states = [f'order {{"id":7,"state":"{state}"}}' for state in sse_resumable.STATES]
    *orders, end = page.locator("li").all_inner_texts()
    # Both orders go their way at the same time, so their states are mixed.
    counts = [orders.count(state) for state in states]
    assert sum(counts) == len(orders)
    assert counts[0] == 2, "nothing came twice"
    assert counts == sorted(counts, reverse=True), "nothing is missing"
    assert end == "end {}"


def test_it_can_be_stopped_while_it_waits(page: Page, shop: Server) -> None:
    site(page, shop)
    answers(page, {"body": "retry: 3600000\ndata: a\n\n"})
    done = page.evaluate(
        """async () => {
          const { follow } = await import("/clients/follow.mjs");
          const leaving = new AbortController();
          const onLost = () => setTimeout(() => leaving.abort(), 0);
          const options = { signal: leaving.signal, onLost };
          for await (const _ of follow("/events", options));
          return "stopped";
        }"""
    )
    assert done == "stopped"


def test_the_page_counts_the_lines_of_the_two_files() -> None:
    files = ("docs/clients/follow.mjs", "docs/assets/sse.js")
    lines = sum(len((ROOT / name).read_text("utf-8").splitlines()) for name in files)
    assert f"two files, {lines} lines" in PAGE
