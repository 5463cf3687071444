"""docs/learn/testing.md: the reader's tests see what the page says."""

import asyncio
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import httpx2
import pytest
from starlette.testclient import TestClient

from cookbook.catalog import ROOT
from tests.kit import own_tests
from tests.kit.servers import WAIT, raw_get, uvicorn

PAGE = (ROOT / "docs/learn/testing.md").read_text("utf-8")
MOST = 50  # orders, as in the reader's file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fill a folder as the reader does."""
    target = tmp_path_factory.mktemp("reader") / "feed_tests"
    own_tests.copy(target, "as it is")
    return target


@pytest.fixture
def feed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import the feed from the folder, without its pauses, and with an end."""
    spec = importlib.util.spec_from_file_location("feed", folder / "feed.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "PAUSE", 0)
    take = module.take

    def limited(number: int) -> object:
        assert number <= MOST
        return take(number)

    monkeypatch.setattr(module, "take", limited)
    return module


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Run the reader's tests on each version of the feed."""
    return own_tests.run(tmp_path_factory.mktemp("versions"))


def test_the_table_is_what_the_tests_say(found: dict[str, dict[str, str]]) -> None:
    kept = own_tests.TABLE.read_text("utf-8")
    assert own_tests.table(found) == kept, "run python -m tests.kit.own_tests"


def test_each_test_but_the_first_fails_somewhere() -> None:
    lines = own_tests.TABLE.read_text("utf-8").splitlines()[2:]
    assert all("| passes |" in line for line in lines)
    assert ["fails" in line for line in lines] == [False] + [True] * (len(lines) - 1)
    assert "Each test fails somewhere, but for the first" in PAGE


def test_every_step_of_the_file_is_shown() -> None:
    text = (ROOT / "docs/learn/test_feed.py").read_text("utf-8")
    steps = re.findall(r"\[start:([\w-]+)\]", text)
    assert [f'"docs/learn/test_feed.py:{step}"' in PAGE for step in steps] == [True] * 7


def test_the_buffered_version_fails_as_the_page_says(
    found: dict[str, dict[str, str]],
) -> None:
    buffered = found["buffered"]
    endless = buffered["test_the_first_event_of_an_endless_feed_arrives"]
    assert "assert 50 < 50" in endless
    assert "fails**, with `assert 50 < 50`" in PAGE
    count = buffered["test_an_order_is_taken_only_when_the_client_reads"]
    assert "assert 1 == 3" in count
    assert "fails**, with `assert 1 == 3`: a single chunk arrives" in PAGE
    server = buffered["test_a_real_server_sends_events_and_notices_who_leaves"]
    assert "ReadTimeout" in server
    assert "**fails** with `ReadTimeout`" in PAGE


def test_each_step_s_command_runs_the_tests_of_its_step(
    found: dict[str, dict[str, str]],
) -> None:
    names = {name.partition("[")[0] for name in found["as it is"]}
    for options, step in own_tests.STEPS.items():
        words = options.removeprefix("-k ").strip("'").split(" or ")
        chosen = {name for name in names if any(word in name for word in words)}
        text = own_tests.section(ROOT / "docs/learn/test_feed.py", step)
        assert chosen == set(re.findall(r"^def (test_\w+)", text, re.M))
        assert f"```bash\npytest test_feed.py {options}\n```" in PAGE


def test_the_kept_copy_brings_the_feed_back(tmp_path: Path) -> None:
    folder = tmp_path / "feed_tests"
    own_tests.copy(folder, "careless")
    subprocess.run(["sh", "-c", own_tests.RESTORE], cwd=folder, check=True)
    assert (folder / "feed.py").read_text("utf-8") == own_tests.feed("as it is")
    assert PAGE.count(own_tests.RESTORE) == 2


def test_a_read_of_the_whole_body_never_ends_by_itself(feed: ModuleType) -> None:
    async def ask() -> None:
        transport = httpx2.ASGITransport(feed.app)
        async with (
            httpx2.AsyncClient(transport=transport, base_url="http://x") as client,
            client.stream("GET", "/orders"),
        ):
            raise AssertionError("the response is here before its end")

    # Both come to the end that this test has put there.
    with pytest.raises(ExceptionGroup):
        asyncio.run(ask())
    with pytest.raises(ExceptionGroup):
        TestClient(feed.app).get("/orders")


@pytest.mark.timeout(60)
def test_curl_and_the_browser_s_address_show_each_event_as_it_comes(
    folder: Path,
) -> None:
    assert "uvicorn feed:app" in own_tests.RUN
    with (
        uvicorn("feed:app", cwd=folder) as server,
        raw_get(server.port, "/orders") as answer,
    ):
        assert answer.chunk().startswith(b"event: order\n")
        status = httpx2.get(f"{server.url}/status", timeout=WAIT).json()
        assert status == {"open": 1}


# The two files


@pytest.fixture
def bare(tmp_path: Path) -> list[str]:
    """Give a Python that finds an empty folder, Starlette and AnyIO, and no more."""
    site = tmp_path / "site"
    site.mkdir()
    for name in ("starlette", "anyio", "idna", "typing_extensions"):
        found = importlib.util.find_spec(name)
        assert found
        assert found.origin
        path = Path(found.origin)
        source = path.parent if path.name == "__init__.py" else path
        (site / source.name).symlink_to(source)
    start = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(site)!r}]\n"
    return [sys.executable, "-I", "-S", "-c", start]


ALONE = {
    "asgi_driver": """
from asgi_driver import drive
from starlette.responses import StreamingResponse
from starlette.routing import Route, Router

async def rows():
    for n in range(5):
        yield f"{n}"

run = drive(Router([Route("/", lambda _: StreamingResponse(rows()))]), "/")
print(run.chunks)
""",
    "sse_parser": """
import sse_parser
print(sse_parser.parse([b"data: o", b"ne\\n\\n"]).events)
""",
}
PRINTED = {
    "asgi_driver": "[b'0', b'1', b'2', b'3', b'4']",
    "sse_parser": "[Event(event='message', data='one', id='')]",
}


@pytest.mark.parametrize("name", ALONE)
def test_a_copied_file_runs_alone(name: str, bare: list[str], tmp_path: Path) -> None:
    source = {"asgi_driver": "tests/kit/asgi.py", "sse_parser": "tests/kit/sse.py"}
    shutil.copy(ROOT / source[name], tmp_path / f"{name}.py")
    *python, start = bare
    done = subprocess.run(
        [*python, start + ALONE[name]], capture_output=True, text=True, cwd=tmp_path
    )
    assert (done.stdout.strip(), done.stderr) == (PRINTED[name], "")
    assert f'??? note "{name}.py"\n    ```python\n    --8<-- "{source[name]}"' in PAGE
