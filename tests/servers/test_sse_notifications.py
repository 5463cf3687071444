"""docs/recipes/sse_notifications.md: its claims about real servers and many clients."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.kit import clients, servers, sse
from tests.kit.servers import Answer, Server, raw_get, uvicorn

pytestmark = pytest.mark.timeout(2 * servers.START + 20)

Serve = Callable[..., AbstractContextManager[Server]]
SERVERS = [servers.uvicorn, servers.hypercorn, servers.granian]
RECIPE = "recipes.sse_notifications:app"
WATCHED = ("--factory", "tests.servers.watched_sse_notifications:watched")
SILENT = ("--factory", "tests.servers.watched_sse_notifications:silent")
EVENTS = "/users/ada/events"


@pytest.fixture(scope="module")
def watched() -> Iterator[Server]:
    with uvicorn(*WATCHED) as running:
        yield running


def events(answer: Answer) -> Iterator[dict[str, Any]]:
    """Read the data of each event; each is a chunk."""
    while chunk := answer.chunk():
        (event,) = sse.parse([chunk]).events
        yield json.loads(event.data)


def pay(url: str, state: str = "paid") -> dict[str, Any]:
    """Change order 7 of ada."""
    answer = httpx2.post(f"{url}/users/ada/orders/7", json={"state": state})
    answer.raise_for_status()
    changed: dict[str, Any] = answer.json()
    return changed


def left(server: Server, **expected: object) -> dict[str, Any]:
    """Give what is left open, as soon as that is what is expected, or at last."""
    found: dict[str, Any] = {}
    for _ in range(250):
        found = httpx2.get(f"{server.url}/left").json()
        if expected.items() <= found.items():
            break
    return found


def flooded(server: Server, fast: Iterator[dict[str, Any]]) -> list[int]:
    """Send a thousand big messages; give the versions that a fast client gets."""
    limit = {"timeout": 60}
    flood = threading.Thread(
        target=httpx2.get, args=[f"{server.url}/flood"], kwargs=limit
    )
    flood.start()
    versions = [next(fast)["version"] for _ in range(1000)]
    flood.join()
    return versions


@pytest.mark.parametrize("serve", SERVERS, ids=lambda serve: serve.__name__)
def test_on_each_server_a_snapshot_comes_first_and_then_each_change(
    serve: Serve,
) -> None:
    with serve(RECIPE) as server, ExitStack() as stack:
        feeds = []
        for user in ("ada", "ada", "zoe"):
            path = f"/users/{user}/events"
            feeds.append(events(stack.enter_context(raw_get(server.port, path))))
        assert [next(feed)["type"] for feed in feeds] == ["init"] * 3
        assert next(feeds[2]) == {"type": "heartbeat", "version": 0}
        changed = pay(server.url)
        for feed in feeds[:2]:
            told = next(event for event in feed if event["type"] != "heartbeat")
            assert told == changed
        # Hers tell nothing of it, before and after.
        assert next(feeds[2]) == {"type": "heartbeat", "version": 0}
        assert next(feeds[2]) == {"type": "heartbeat", "version": 0}


@pytest.mark.parametrize("serve", SERVERS, ids=lambda serve: serve.__name__)
def test_on_each_server_a_client_that_leaves_leaves_nothing(serve: Serve) -> None:
    name, *options = reversed(WATCHED)
    if serve is servers.hypercorn:
        name, options = f"{name}()", []
    with serve(name, *options) as server:
        for _ in range(3):
            with raw_get(server.port, EVENTS) as answer:
                assert next(events(answer))["type"] == "init"
        found = left(server, streams=0, generators=0)
        assert (found["streams"], found["generators"]) == (0, 0)
        assert "Traceback" not in server.output()


def test_two_hundred_that_crash_leave_nothing_without_a_garbage_collection(
    watched: Server,
) -> None:
    before = left(watched, streams=0, generators=0)
    assert (before["streams"], before["generators"]) == (0, 0)
    for number in range(200):
        with raw_get(watched.port, EVENTS) as answer:
            if number % 2:
                answer.chunk()
            answer.abort()
    assert left(watched, **before) == before
    assert "Traceback" not in watched.output()
    assert "ERROR" not in watched.output()


def test_who_never_reads_starts_again_and_the_others_miss_nothing() -> None:
    with (
        uvicorn(*SILENT) as server,
        raw_get(server.port, EVENTS) as slow,
        raw_get(server.port, EVENTS) as fast,
    ):
        slow_feed, fast_feed = events(slow), events(fast)
        assert next(slow_feed)["type"] == next(fast_feed)["type"] == "init"
        assert flooded(server, fast_feed) == list(range(1, 1001))
        # It gets what was on its way, then one snapshot, and what came after that.
        seen = []
        version = 0
        while version < 1000:
            event = next(slow_feed)
            assert event["type"] == "init" or event["version"] == version + 1
            assert event["version"] > version
            version = event["version"]
            seen.append(event["type"])
        assert seen.count("init") == 1
        assert len(seen) < 900
        assert "Traceback" not in server.output()


def test_nothing_is_logged_when_one_leaves_that_never_read() -> None:
    with uvicorn(*SILENT) as server:
        with raw_get(server.port, EVENTS) as fast:
            with raw_get(server.port, EVENTS) as slow:
                fast_feed = events(fast)
                slow.chunk()
                next(fast_feed)
                flooded(server, fast_feed)
                slow.abort()
            server.expect(f"over {EVENTS}")
        # The generator of the endpoint is FastAPI's to close; it holds nothing.
        found = left(server, streams=0, generators=1)
        assert (found["streams"], found["generators"]) == (0, 1)
        assert found["suspended"] == ["events"]
        assert "Traceback" not in server.output()
        assert "ERROR" not in server.output()


def test_two_workers_have_two_shops() -> None:
    with uvicorn(RECIPE, "--workers", "2") as server, ExitStack() as stack:
        workers = re.findall(r"Started server process \[(\d+)\]", server.output())
        first, second = (int(worker) for worker in workers)

        feeds = []
        for other in (second, first):
            os.kill(other, signal.SIGSTOP)
            try:
                answer = stack.enter_context(raw_get(server.port, EVENTS))
                feeds.append(events(answer))
                assert next(feeds[-1])["version"] == 0
                if other == first:
                    changed = pay(server.url)
            finally:
                os.kill(other, signal.SIGCONT)
        # The second worker changed its shop, and told its stream.
        told = next(event for event in feeds[1] if event["type"] != "heartbeat")
        assert told == changed
        # The stream of the first worker shows the old state for as long as it is open.
        for _ in range(3):
            assert next(feeds[0]) == {"type": "heartbeat", "version": 0}


def test_a_server_that_is_stopped_waits_for_its_streams_or_for_a_second_ctrl_c() -> (
    None
):
    with uvicorn(RECIPE) as server, raw_get(server.port, EVENTS) as answer:
        feed = events(answer)
        next(feed)
        server.signal(signal.SIGINT)
        server.expect("Waiting for connections to close")
        assert next(feed)["type"] == "heartbeat"
        server.signal(signal.SIGINT)
        assert server.wait() in (0, -signal.SIGINT)


def test_the_python_client_prints_what_happens_until_the_connection_is_lost(
    tmp_path: Path,
) -> None:
    with uvicorn(RECIPE) as server:
        copy = clients.copied("sse_notifications.py", server.url, tmp_path)
        process = subprocess.Popen(
            [sys.executable, str(copy)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == (
            "All of it: [{'id': 7, 'item': 'green tea', 'state': 'placed'}, "
            "{'id': 8, 'item': 'honey', 'state': 'shipped'}] []\n"
        )
        pay(server.url)
        assert process.stdout.readline() == (
            "Changed: {'id': 7, 'item': 'green tea', 'state': 'paid'}\n"
        )
        httpx2.post(f"{server.url}/users/ada/messages", json={"text": "Ring twice."})
        assert process.stdout.readline() == "Message: Ring twice.\n"
        server.signal(signal.SIGKILL)
        assert process.wait(servers.WAIT) == 1
        assert process.stderr.read().startswith("The connection was ")
        process.stdout.close()
        process.stderr.close()


def test_the_python_client_notices_by_the_heartbeat_that_it_missed_something(
    tmp_path: Path,
) -> None:
    with uvicorn("--factory", "tests.servers.watched_sse_notifications:skipping") as it:
        done = clients.run("sse_notifications.py", it.url, tmp_path)
    assert done.stdout == "All of it: [] []\n"
    assert done.stderr == "A change is missing.\n"
    assert done.returncode == 1


def test_the_python_client_checks_the_status_first(tmp_path: Path) -> None:
    # This server knows no /users.
    with uvicorn("recipes.plain_text:app") as server:
        done = clients.run("sse_notifications.py", server.url, tmp_path)
    assert done.stdout == ""
    assert "404 Not Found" in done.stderr
    assert done.returncode == 1
