"""Tests of a stream, from the quickest to the one with a browser.

Run them:   pytest test_feed.py
"""

# --8<-- [start:whole]
import feed
import pytest
import sse_parser
from fastapi.testclient import TestClient


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "PAUSE", 0)


def test_a_feed_with_a_limit_has_its_orders_and_an_end() -> None:
    response = TestClient(feed.app).get("/orders?limit=2")
    assert response.headers["content-type"].startswith("text/event-stream")
    events = sse_parser.parse([response.content]).events
    assert [event.event for event in events] == ["order", "order", "done"]
    assert events[0].data == '{"id":1,"state":"placed"}'


# --8<-- [end:whole]
# --8<-- [start:endless]
MOST = 50  # orders that a test takes at most


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """List the orders that were taken so far; end a feed that takes too many."""
    numbers: list[int] = []

    def take(number: int) -> feed.Order:
        assert number <= MOST, "orders are taken, and nobody reads them"
        numbers.append(number)
        return feed.Order(id=number)

    monkeypatch.setattr(feed, "take", take)
    return numbers


def test_the_first_event_of_an_endless_feed_arrives(taken: list[int]) -> None:
    with TestClient(feed.app).stream("GET", "/orders") as response:
        line = next(response.iter_lines())
        assert line == "event: order"
        assert len(taken) < MOST


# --8<-- [end:endless]
# --8<-- [start:count]
from asgi_driver import drive, note

AHEAD = 4  # orders that FastAPI takes before the client asks for them


def test_an_order_is_taken_only_when_the_client_reads(taken: list[int]) -> None:
    run = drive(feed.app, "/orders", stall_at=4, disconnect_at=4)
    assert len(run.chunks) == 3
    assert len(taken) <= 3 + 1 + AHEAD


# --8<-- [end:count]
# --8<-- [start:leave]
class Noted(set[object]):
    """A set that tells the driver's journal when something leaves it."""

    def discard(self, element: object) -> None:
        """Write down that a feed is closed."""
        super().discard(element)
        note("closed")


@pytest.mark.usefixtures("taken")
@pytest.mark.parametrize("client", ["quick", "slow"])
def test_the_feed_is_closed_when_its_client_leaves(
    client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "open_feeds", Noted())
    if client == "quick":
        monkeypatch.setattr(feed, "PAUSE", 3600)  # The second order is an hour away.
        run = drive(feed.app, "/orders", disconnect_at=1)
    else:
        run = drive(feed.app, "/orders", stall_at=3, disconnect_at=3)
    assert run.journal.count("closed") == 1


# --8<-- [end:leave]
# --8<-- [start:failure]
def test_a_wrong_limit_is_refused_before_the_stream_begins() -> None:
    response = TestClient(feed.app).get("/orders?limit=0")
    assert response.status_code == 422


def test_a_failure_is_the_last_event(monkeypatch: pytest.MonkeyPatch) -> None:
    def take(number: int) -> feed.Order:
        if number == 3:
            raise OSError("the shop is closed")
        return feed.Order(id=number)

    monkeypatch.setattr(feed, "take", take)
    events = sse_parser.parse(drive(feed.app, "/orders").chunks).events
    assert [event.event for event in events] == ["order", "order", "failed"]
    assert "closed" not in events[-1].data


# --8<-- [end:failure]
# --8<-- [start:server]
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import httpx2

START = 30  # seconds in which the server must start
WAIT = 15  # seconds, the limit of every other wait


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Start a server on a free port, and give its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "feed:app", "--port", str(port)]
    with subprocess.Popen(command) as process:
        try:
            until(lambda: answers(port), START)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def answers(port: int) -> bool:
    """Tell whether somebody listens on a port."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def until(condition: Callable[[], bool], limit: float = WAIT) -> None:
    """Wait for something that sends no notice."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"waited for {limit} seconds"
        time.sleep(0.02)


def test_a_real_server_sends_events_and_notices_who_leaves(url: str) -> None:
    with httpx2.Client(base_url=url, timeout=WAIT) as client:
        with client.sse("/orders") as events:
            first = next(iter(events))
        assert (first.event, first.id) == ("order", "1")
        until(lambda: client.get("/status").json() == {"open": 0})


# --8<-- [end:server]
# --8<-- [start:browser]
import os

from playwright.sync_api import sync_playwright

LISTEN = """(seconds) => new Promise((resolve, reject) => {
  const source = new EventSource("/orders");
  source.addEventListener("order", (event) => {
    source.close();
    resolve(event.data);
  });
  setTimeout(() => reject(new Error("no event has come")), seconds * 1000);
})"""


def test_a_browser_gets_the_first_event(url: str) -> None:
    with sync_playwright() as playwright:
        # Without this variable Playwright starts the browser that it has installed.
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM"), args=["--no-sandbox"]
        )
        page = browser.new_page()
        page.goto(f"{url}/status")
        data = page.evaluate(LISTEN, WAIT)
        browser.close()
    assert data == '{"id":1,"state":"placed"}'


# --8<-- [end:browser]
