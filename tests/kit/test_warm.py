"""A warm start saves the imports and changes nothing else."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from tests.kit import servers, warm
from tests.kit.servers import Server, uvicorn

pytestmark = [
    pytest.mark.timeout(servers.START + 10),
    pytest.mark.skipif(not warm.is_possible(), reason="programs are forked on Linux"),
]

APP = """
    import os, sys
    import recipes.tea
    from fastapi import FastAPI
    import uvicorn

    before = {name.partition(".")[0] for name in sys.modules}
    print("the kettle is on")
    app = FastAPI()

    @app.get("/")
    def about() -> dict:
        return {
            "argv": sys.argv[1],
            "cwd": os.getcwd(),
            "path": sys.path,
            "env": dict(os.environ),
            "recipes.tea": recipes.tea.__file__,
            "modules": sorted(before),
            "handle_exit": uvicorn.Server.handle_exit.__module__,
        }
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Give a folder with an application and a recipe that are nowhere else."""
    (tmp_path / "shop.py").write_text(textwrap.dedent(APP), "utf-8")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/__init__.py").touch()
    (tmp_path / "recipes/tea.py").touch()
    return tmp_path


def about(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = httpx2.get(server.url).json()
    return found


def test_a_warm_server_is_a_process_of_its_own_in_a_group_of_its_own(
    shop: Path,
) -> None:
    with uvicorn("shop:app", cwd=shop) as server:
        process = psutil.Process(server.process.pid)
        assert isinstance(server.process, warm.Warm)
        assert os.getpgid(process.pid) == process.pid
        assert os.getsid(process.pid) == process.pid
        # Beside it there may still be the connection that asked whether it listens.
        sockets = process.net_connections("inet")
        (listening,) = (s for s in sockets if s.status == psutil.CONN_LISTEN)
        assert listening.laddr == ("127.0.0.1", server.port)
    assert not process.is_running()


def test_a_warm_server_has_its_own_folder_and_only_the_given_environment(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The process that waits was started before these were set.
    monkeypatch.setenv("TEA", "green")
    monkeypatch.delenv("HOME", raising=False)
    env = {"POT": "big"}
    with uvicorn("shop:app", cwd=shop, env=env, warm=False) as server:
        cold = about(server)
    with uvicorn("shop:app", cwd=shop, env=env) as server:
        told = about(server)
    assert told["path"] == cold["path"]
    assert (told["argv"], told["cwd"]) == ("shop:app", str(shop))
    assert told["recipes.tea"] == str(shop / "recipes/tea.py")
    assert told["env"] == {**os.environ, "POT": "big"}


def test_before_a_warm_server_nothing_was_imported_that_could_change_it(
    shop: Path,
) -> None:
    with uvicorn("shop:app", cwd=shop) as server:
        told = about(server)
    assert {"fastapi", "openai", "httpx2"} <= set(told["modules"])
    assert not {"tests", "cookbook", "pytest", "sse_starlette"} & set(told["modules"])
    assert told["handle_exit"] == "uvicorn.server"


def test_what_a_warm_server_prints_is_in_its_output_at_once(shop: Path) -> None:
    with uvicorn("shop:app", cwd=shop) as server:
        server.expect("the kettle is on")
        server.expect("Uvicorn running")


def test_many_warm_servers_run_side_by_side(shop: Path) -> None:
    with ExitStack() as stack:
        started = [
            stack.enter_context(uvicorn("shop:app", cwd=shop)) for _ in range(10)
        ]
        assert [about(server)["argv"] for server in started] == ["shop:app"] * 10
    assert {server.process.poll() for server in started} == {-signal.SIGTERM}


def test_a_warm_server_that_cannot_start_is_an_error_with_its_traceback(
    shop: Path,
) -> None:
    with (
        pytest.raises(
            AssertionError, match=r"ended with 1:(.|\n)*No module named 'no'"
        ),
        uvicorn("no.such:app", cwd=shop),
    ):
        pass


def test_a_warm_server_that_is_killed_says_so(shop: Path) -> None:
    with uvicorn("shop:app", cwd=shop) as server:
        assert server.process.poll() is None
        server.signal(signal.SIGKILL)
        assert server.wait() == -signal.SIGKILL
        server.signal(signal.SIGTERM)  # to nobody


def test_a_variable_for_the_interpreter_needs_a_cold_start(shop: Path) -> None:
    env = {"PYTHONUTF8": "1"}
    with uvicorn("shop:app", cwd=shop, env=env) as server:
        assert isinstance(server.process, subprocess.Popen)
        assert about(server)["env"]["PYTHONUTF8"] == "1"


@pytest.mark.parametrize("options", [["--workers", "1"], ["--reload"]])
def test_an_option_that_starts_interpreters_needs_a_cold_start(
    shop: Path, options: list[str]
) -> None:
    with uvicorn("shop:app", *options, cwd=shop) as server:
        assert isinstance(server.process, subprocess.Popen)


@pytest.mark.parametrize("end", ["", "import os, signal; os.kill(os.getpid(), 9)"])
def test_the_process_that_waits_ends_with_the_tests(end: str) -> None:
    code = f"""
from tests.kit import servers
with servers.uvicorn("recipes.plain_text:app") as server:
    import json, psutil
    print(json.dumps([p.pid for p in psutil.Process().children()]), flush=True)
{end}
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=servers.ROOT, capture_output=True, text=True
    )
    assert done.stderr == ""
    (pid,) = json.loads(done.stdout)
    left = [psutil.Process(pid)] if psutil.pid_exists(pid) else []
    assert psutil.wait_procs(left, servers.WAIT)[1] == []
