"""docs/learn/backpressure.md: what is made for a client that does not read."""

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import httpx2
import psutil
import pytest
from uvicorn.protocols.http import flow_control

from cookbook.catalog import ROOT
from docs.learn import backpressure
from tests.kit import stalled
from tests.kit.asgi import drive
from tests.kit.nginx import nginx
from tests.kit.servers import START, WAIT, Server, raw_get, until, uvicorn

PAGE = (ROOT / "docs/learn/backpressure.md").read_text("utf-8")
CLIENT = ROOT / "docs/learn/backpressure_stall.py"
SEEN = ROOT / "docs/learn/backpressure_stall.txt"
LIMIT = 100  # seconds for the client
MOST = 20_000  # orders that all the buffers of a system hold, and more


@pytest.fixture
def server() -> Iterator[Server]:
    with uvicorn("docs.learn.backpressure:app") as running:
        yield running


def made(server: Server) -> dict[str, int]:
    answer: dict[str, int] = httpx2.get(f"{server.url}/made", timeout=WAIT).json()
    return answer


def reach(server: Server, way: str, orders: int) -> Callable[[], bool]:
    return lambda: made(server).get(way, 0) >= orders


def test_table_and_pictures_are_up_to_date() -> None:
    for name, text in stalled.files().items():
        kept = (ROOT / "docs/learn" / name).read_text("utf-8")
        assert kept == text, "run python -m tests.kit.stalled"


def test_what_was_made_when_the_client_holds_three_chunks() -> None:
    found = stalled.counted()
    assert {held for held, _ in found["direct"]} == {0, 1, 2, 3}
    assert found["direct"][-1][1] == 3 + 1
    assert found["bounded"][-1][1] == 3 + 1 + backpressure.ROOM + 1
    growing = [made for held, made in found["unbounded"] if held == 3]
    assert [b - a for a, b in pairwise(growing)] == [1] * (len(growing) - 1)


@pytest.mark.parametrize("way", stalled.WAYS)
def test_a_client_that_leaves_ends_every_stream(way: str) -> None:
    backpressure.made.clear()
    run = drive(backpressure.app, f"/{way}", disconnect_at=3)
    assert run.journal[-1] == "returned"
    assert run.lost <= 2


@pytest.mark.timeout(START + LIMIT)
def test_a_client_that_stalls_stops_two_of_three(
    server: Server, tmp_path: Path
) -> None:
    copy = tmp_path / "client.py"
    text = CLIENT.read_text("utf-8").replace("http://127.0.0.1:8000", server.url)
    copy.write_text(text, "utf-8")
    done = subprocess.run(
        [sys.executable, str(copy)], capture_output=True, text=True, timeout=LIMIT
    )
    assert done.stderr == ""
    for printed in (done.stdout, SEEN.read_text("utf-8")):
        lines = [ast.literal_eval(line) for line in printed.splitlines()]
        assert len(lines) == 5
        assert lines[-1]["unbounded"] >= 50_000
        for way in ("direct", "bounded"):
            assert lines[-1][way] == lines[-2][way] < MOST


@pytest.mark.timeout(2 * START + LIMIT)
def test_the_memory_grows_by_what_nobody_reads(server: Server) -> None:
    with raw_get(server.port, "/unbounded"):
        process = psutil.Process(server.process.pid)
        before = process.memory_info().rss
        first = made(server)["unbounded"]
        until(reach(server, "unbounded", first + 20_000), seconds=LIMIT)
        # The buffers of the system hold a part of them, but less than half.
        assert process.memory_info().rss - before > 10_000 * 1000


@pytest.mark.timeout(3 * START + LIMIT)
def test_nginx_reads_ahead_unless_it_is_told_not_to(server: Server) -> None:
    way = f"proxy_pass {server.url};"
    blocks = f"location / {{ {way} }} location /direct {{ {way} %s }}"
    with ExitStack() as stack:
        front = stack.enter_context(nginx(blocks % "proxy_buffering off;"))
        stack.enter_context(raw_get(front.port, "/direct"))
        stack.enter_context(raw_get(server.port, "/unbounded"))
        until(reach(server, "unbounded", 2 * MOST), seconds=LIMIT)
        held = made(server)["direct"]
        assert held < MOST
    with nginx(blocks % "") as front, raw_get(front.port, "/direct"):
        until(reach(server, "direct", held + MOST), seconds=LIMIT)


def test_the_numbers_on_the_page_are_those_of_the_packages() -> None:
    assert flow_control.HIGH_WATER_LIMIT == 64 * 1024
    assert "uvicorn | 64 KiB" in PAGE
    assert 990 <= len(backpressure.NOTE) + len('{"id": 1, "note": ""}\n') <= 1010
