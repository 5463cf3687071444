"""docs/pitfalls/around.md: Waiting for background tasks to complete, for ever."""

import shutil
import signal
import sys
from pathlib import Path

import pytest

from cookbook.catalog import ROOT
from tests.kit import servers
from tests.kit.servers import START, Server, free_port, raw_get, serve, uvicorn

pytestmark = pytest.mark.timeout(START + 20)
APP = "recipes.pitfalls.graceful_shutdown.thread_that_waits:app"
BACKSTOP = ("--timeout-graceful-shutdown", "1")  # seconds
CANCELLED = "Cancel 1 running task(s), timeout graceful shutdown exceeded"


def test_the_process_stays_when_its_last_client_has_left_until_ctrl_c() -> None:
    with uvicorn(APP) as server:
        with raw_get(server.port, "/orders") as answer:
            assert b'{"id": 1}' in answer.chunk()
            server.expect("Waiting for connections to close.")
        # The client is gone, and nobody can end the wait of a thread.
        server.expect("Waiting for background tasks to complete.")
        server.signal(signal.SIGTERM)
        assert server.process.poll() is None
        assert "Waiting for application shutdown." not in server.output()
        # Ctrl+C does not wait, and then the SIGTERM of before ends the process.
        server.signal(signal.SIGINT)
        assert server.wait() == -signal.SIGTERM
        assert "Waiting for application shutdown." not in server.output()


def test_with_a_backstop_the_sigterm_ends_it() -> None:
    with (
        uvicorn(APP, *BACKSTOP) as server,
        raw_get(server.port, "/orders") as answer,
    ):
        assert b'{"id": 1}' in answer.chunk()
        with pytest.raises(EOFError):
            answer.rest()
        server.expect(CANCELLED)
        assert server.wait() == -signal.SIGTERM
        assert "Waiting for application shutdown." in server.output()


# Does nothing at SIGTERM unless it is handled, as the kernel does with process 1 of a
# container (man 7 pid_namespaces).
PROCESS_1 = """
import signal
from uvicorn.main import main

signal.signal(signal.SIGTERM, signal.SIG_IGN)
main()
"""


def test_without_a_sigterm_that_ends_it_python_waits_for_the_thread(
    tmp_path: Path,
) -> None:
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    (tmp_path / "process_1.py").write_text(PROCESS_1, "utf-8")
    port = free_port()
    command = [sys.executable, "-u", "-m", "process_1", APP, "--port", str(port)]
    with (
        serve([*command, *BACKSTOP], port, cwd=tmp_path, warm=True) as process_1,
        raw_get(port, "/orders") as answer,
    ):
        assert b'{"id": 1}' in answer.chunk()
        # The other one sends itself the signal of Ctrl+C.
        program = tmp_path / "recipes/pitfalls/graceful_shutdown/thread_that_waits.py"
        text = program.read_text("utf-8")
        assert text.count("signal.SIGTERM") == 1
        program.write_text(text.replace("signal.SIGTERM", "signal.SIGINT"), "utf-8")
        with (
            uvicorn(APP, *BACKSTOP, cwd=tmp_path) as stopped_by_ctrl_c,
            raw_get(stopped_by_ctrl_c.port, "/orders") as other,
        ):
            assert b'{"id": 1}' in other.chunk()
            for server in (process_1, stopped_by_ctrl_c):
                assert_it_waits_for_its_thread(server)


def assert_it_waits_for_its_thread(server: Server) -> None:
    """Wait until uvicorn has given up; find Python in a wait, which Ctrl+C ends."""
    server.expect(CANCELLED)
    server.expect("Finished server process")
    server.expect("CancelledError")

    def ended_by_ctrl_c() -> bool:
        server.signal(signal.SIGINT)
        return server.process.poll() is not None

    servers.until(ended_by_ctrl_c, "its end")
    # That is where it was: at its end, waiting for its threads.
    assert "Exception ignored in: <module 'threading'" in server.output()
