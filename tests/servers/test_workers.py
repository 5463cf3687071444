"""docs/production/workers.md: what uvicorn's workers share, and what they do not."""

import os
import re
import shutil
import signal
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest

from cookbook.catalog import ROOT
from tests.kit import servers
from tests.kit.servers import START, raw_get, until, uvicorn
from tests.servers.upstream_http_proxy import upstream

pytestmark = pytest.mark.timeout(3 * servers.START)

APP = "tests.servers.told_workers:app"


def begun(output: str) -> list[int]:
    """List the processes that have begun, in that order."""
    return [int(number) for number in re.findall(r"begin (\d+)\.", output)]


def test_each_worker_has_its_own_lifespan_and_memory_and_a_dead_one_is_replaced() -> (
    None
):
    with uvicorn(APP, "--workers", "2") as server:
        first, second = begun(server.output())
        assert first != second
        # Each request by a connection of its own, so that the kernel chooses anew.
        answers = [httpx2.get(f"{server.url}/count").json() for _ in range(20)]
        seen = Counter(answer["process"] for answer in answers)
        assert set(seen) <= {first, second}
        assert sum(seen.values()) == 20
        for process, times in seen.items():
            own = [a["asked"] for a in answers if a["process"] == process]
            assert own == list(range(1, times + 1))
        with raw_get(server.port, "/stream") as broken:
            process = int(broken.chunk())
            os.kill(process, signal.SIGKILL)
            with pytest.raises((EOFError, ConnectionError)):
                broken.chunk()
        until(lambda: len(begun(server.output())) == 3, "a new worker", START)
        assert f"Child process [{process}] died" in server.output()


def test_two_workers_open_twice_the_connections_that_one_may() -> None:
    app = "tests.servers.narrow_http_proxy:app"
    held = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n"
    with upstream() as service, ExitStack() as streams:
        service.says(held, b"0\r\n\r\n")
        env = {"SHOP_URL": service.url}
        with uvicorn(app, "--workers", "2", env=env) as server:
            heads: list[str] = []

            def both_are_used() -> bool:
                # The kernel chooses the worker. One that is used says 503.
                answer = streams.enter_context(raw_get(server.port, "/shop/x"))
                heads.append(answer.head.split()[1])
                return heads.count("200") == 2

            until(both_are_used, "a connection of each worker", START)
            for _ in range(5):
                both_are_used()
            assert set(heads) <= {"200", "503"}
            assert heads.count("200") == 2
            assert heads[-5:] == ["503"] * 5
            assert service.connections == 2


def test_with_reload_there_is_one_worker_and_a_limit_cuts_the_open_streams(
    tmp_path: Path,
) -> None:
    source = ROOT / "tests/servers/told_workers.py"
    app = tmp_path / "changed.py"
    shutil.copy(source, app)
    options = ["--reload", "--workers", "2", "--timeout-graceful-shutdown", "1"]
    with uvicorn("changed:app", *options, cwd=tmp_path) as server:
        until(lambda: begun(server.output()), "the worker", START)
        assert '"workers" flag is ignored when reloading is enabled' in server.output()
        with raw_get(server.port, "/stream") as answer:
            (process,) = begun(server.output())
            assert int(answer.chunk()) == process
            app.write_text(source.read_text("utf-8") + "\n# changed\n", "utf-8")
            answer.connection.settimeout(START)
            with pytest.raises((EOFError, ConnectionError)):
                answer.chunk()
        until(lambda: len(begun(server.output())) == 2, "the new process", START)
    assert "Cancel 1 running task(s)" in server.output()
