"""docs/index.md: the first stream, as a newcomer types it."""

import asyncio
import importlib.util
import shutil
import subprocess
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from cookbook.catalog import ROOT
from tests.kit import servers, tie
from tests.kit.asgi import drive, note
from tests.kit.servers import need, uvicorn

SOURCE = ROOT / "docs/learn/first_stream.py"
PAGE = (ROOT / "docs/index.md").read_text("utf-8")


@pytest.fixture
def first_stream(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Load the file, without its seconds; each line is noted when it is made."""
    spec = importlib.util.spec_from_file_location("first_stream", SOURCE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    async def noted(_: float) -> None:
        note("made")
        await asyncio.sleep(0)

    at_once = SimpleNamespace(sleep=noted)
    monkeypatch.setattr(module, "asyncio", at_once)
    return module


def test_it_has_about_ten_lines_and_the_page_shows_it_whole() -> None:
    assert tie.code_lines(SOURCE.read_text("utf-8")) <= 10
    assert f'--8<-- "{SOURCE.relative_to(ROOT).as_posix()}"' in PAGE


def test_it_needs_no_package_but_those_that_the_page_installs() -> None:
    assert tie.imports(SOURCE) == {"fastapi"}
    assert "    python -m pip install fastapi uvicorn\n" in PAGE


def test_no_line_waits_for_the_next_one(first_stream: ModuleType) -> None:
    run = drive(first_stream.app, "/", stall_at=3, disconnect_at=3)
    assert [len(chunk.splitlines()) for chunk in run.chunks] == [1, 1]
    assert run.before("stall 3").count("made") == 3  # of five


@pytest.mark.timeout(servers.START + 30)
def test_the_commands_show_five_lines_one_by_one(tmp_path: Path) -> None:
    shutil.copy(SOURCE, tmp_path)
    curl = shutil.which("curl") or need("curl", "apt-get install curl")
    for command in ("uvicorn first_stream:app", "curl -N http://127.0.0.1:8000/"):
        assert f"```bash\n{command}\n```" in PAGE
    with uvicorn("first_stream:app", cwd=tmp_path) as server:
        done = subprocess.run(
            [curl, "-sN", f"{server.url}/"], capture_output=True, text=True, timeout=30
        )
    lines = done.stdout.splitlines()
    assert lines[0] == "1 min: the tea is getting stronger"
    assert len(lines) == 5
    assert "five in all" in PAGE
