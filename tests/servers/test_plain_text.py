"""docs/recipes/plain_text.md: text from a real server, and how a server is frozen."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from cookbook.catalog import ROOT
from recipes.plain_text import ORDERS
from tests.kit import clients, servers
from tests.kit.changed import changed
from tests.kit.servers import Server, need, raw_get, uvicorn

pytestmark = pytest.mark.timeout(servers.START + 10)

ROUTES = [
    ("/async", "/go/async", "utf-8"),
    ("/sync", "/go/sync", "utf-8"),
    ("/route", "/go/async", "utf-8"),
    ("/bytes", "/go/sync", "iso-8859-1"),
]
every_route = pytest.mark.parametrize(
    ("path", "go", "charset"), ROUTES, ids=[path for path, *_ in ROUTES]
)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with uvicorn("tests.servers.held_plain_text:app") as running:
        yield running


def let(server: Server, go: str) -> None:
    with raw_get(server.port, go) as answer:
        assert answer.head.startswith("HTTP/1.1 204 ")


@every_route
def test_each_line_is_read_before_the_next_may_be_made(
    server: Server, path: str, go: str, charset: str
) -> None:
    with raw_get(server.port, f"{path}/2") as answer:
        assert f"charset={charset}\r\n" in answer.head
        assert answer.chunk() == "Order 2 for Zoë\n".encode(charset)
        for item in ORDERS[2].items:
            let(server, go)
            assert answer.chunk() == f"packed: {item}\n".encode(charset)
        assert [answer.chunk(), answer.chunk()] == [b"Ready to ship\n", b""]


@every_route
def test_an_error_in_mid_stream_leaves_the_body_without_its_last_chunk(
    server: Server, path: str, go: str, charset: str
) -> None:
    with raw_get(server.port, f"{path}/3") as answer:
        assert answer.head.startswith("HTTP/1.1 200 OK\r\n")
        assert answer.chunk().decode(charset) == "Order 3 for Eve\n"
        let(server, go)
        assert answer.chunk() == b"packed: green tea\n"
        with pytest.raises(EOFError, match="cut off"):
            answer.chunk()
    server.expect("the shelf is gone")


@every_route
def test_an_error_in_mid_stream_is_an_error_to_a_python_client(
    server: Server, path: str, go: str, charset: str
) -> None:
    url = f"http://127.0.0.1:{server.port}{path}/3"
    with httpx2.stream("GET", url) as response:
        lines = response.iter_lines()
        assert (response.encoding, next(lines)) == (charset, "Order 3 for Eve")
        let(server, go)
        assert next(lines) == "packed: green tea"
        with pytest.raises(httpx2.RemoteProtocolError, match="incomplete chunked read"):
            next(lines)


SLIP = (
    "Order 2 for Zoë|packed: crème brûlée|packed: rosé|packed: jalapeño|Ready to ship"
)
PATHS = ("/async/2", "/route/2", "/sync/2", "/bytes/2")


@pytest.fixture(scope="module")
def recipe() -> Iterator[Server]:
    with uvicorn("recipes.plain_text:app") as running:
        yield running


def curl(*arguments: str) -> list[str]:
    return [shutil.which("curl") or need("curl", "apt-get install curl"), *arguments]


def client(name: str, server: Server, folder: Path, order: int = 2) -> list[str]:
    """Give the command that runs a client, which asks for this order."""
    program = sys.executable
    if name.endswith(".mjs"):
        program = shutil.which("node") or need("node", "install Node.js 18 or newer")
    file = clients.copied(name, server.url, folder)
    source = file.read_text("utf-8")
    assert source.count("/route/2") == 1
    file.write_text(source.replace("/route/2", f"/route/{order}"), "utf-8")
    return [program, str(file)]


def test_curl_prints_each_line_before_the_next_may_be_made(server: Server) -> None:
    command = curl("-sN", f"{server.url}/async/2")
    with subprocess.Popen(command, stdout=subprocess.PIPE) as running:
        assert running.stdout
        assert running.stdout.readline() == "Order 2 for Zoë\n".encode()
        for item in ORDERS[2].items:
            let(server, "/go/async")
            assert running.stdout.readline() == f"packed: {item}\n".encode()
        assert running.stdout.read() == b"Ready to ship\n"


@pytest.mark.parametrize("name", ["plain_text.py", "plain_text.mjs"])
def test_a_client_prints_each_line_before_the_next_may_be_made(
    server: Server, name: str, tmp_path: Path
) -> None:
    command = client(name, server, tmp_path)
    with subprocess.Popen(command, stdout=subprocess.PIPE) as running:
        assert running.stdout
        assert running.stdout.readline() == "Order 2 for Zoë\n".encode()
        for item in ORDERS[2].items:
            let(server, "/go/async")
            assert running.stdout.readline() == f"packed: {item}\n".encode()
        assert running.stdout.read() == b"Ready to ship\n"
    assert running.returncode == 0


@pytest.mark.parametrize("name", ["plain_text.py", "plain_text.mjs"])
def test_a_client_says_why_it_was_refused(
    recipe: Server, name: str, tmp_path: Path
) -> None:
    command = client(name, recipe, tmp_path, order=7)
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.returncode == 1
    assert "404" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("name", ["plain_text.py", "plain_text.mjs"])
def test_a_client_runs_as_it_was_copied(
    recipe: Server, name: str, tmp_path: Path
) -> None:
    done = clients.run(name, recipe.url, tmp_path)
    assert "|".join(done.stdout.splitlines()) == SLIP


@pytest.mark.parametrize("name", ["plain_text.py", "plain_text.mjs"])
def test_a_client_does_not_take_half_a_slip_for_a_whole_one(
    server: Server, name: str, tmp_path: Path
) -> None:
    command = client(name, server, tmp_path, order=3)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdout
        assert running.stdout.readline() == b"Order 3 for Eve\n"
        let(server, "/go/async")
        assert running.stdout.readline() == b"packed: green tea\n"
        running.communicate()
    assert running.returncode == 1


def test_by_default_the_python_client_waits_five_seconds_for_a_byte() -> None:
    with httpx2.Client() as standard:
        assert standard.timeout.read == 5


def test_break_it_without_a_media_type_nothing_names_the_charset(
    recipe: Server, tmp_path: Path
) -> None:
    line = '    media_type = "text/plain"\n'
    folder = changed(tmp_path, "plain_text", line, "")
    page = (ROOT / "docs/recipes/plain_text.md").read_text("utf-8")
    told = "curl -i http://127.0.0.1:8000/route/2"
    field = "content-type: text/plain; charset=utf-8"
    assert told in page
    assert field in page
    with uvicorn("recipes.plain_text:app", cwd=folder) as broken:
        for server, there in [(recipe, True), (broken, False)]:
            command = curl("-s", "-i", f"{server.url}/route/2")
            answer = subprocess.run(command, capture_output=True, timeout=10)
            head, _, body = answer.stdout.decode().partition("\r\n\r\n")
            assert "|".join(body.splitlines()) == SLIP
            assert (field in head) == there
            assert ("content-type" in head.lower()) == there


@pytest.mark.parametrize("path", PATHS)
def test_uvicorn_logs_nothing_about_clients_that_leave(
    recipe: Server, path: str
) -> None:
    for number in range(40):
        with raw_get(recipe.port, path) as answer:
            answer.chunk()
            if number % 2:
                answer.abort()
    with raw_get(recipe.port, path) as answer:
        answer.rest()
    lines = recipe.output().splitlines()
    assert sum(path in line for line in lines) >= 41
    assert [line for line in lines if not line.startswith("INFO: ")] == []


def answers(server: Server) -> bool:
    try:
        with raw_get(server.port, "/openapi.json") as answer:
            return answer.head.startswith("HTTP/1.1 200 OK\r\n")
    except TimeoutError:
        return False


@pytest.mark.parametrize(
    ("path", "frozen"), [("/tickets", True), ("/tickets-as-route", False)]
)
def test_without_an_await_one_client_that_leaves_stops_the_server_for_all(
    path: str, frozen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with uvicorn("recipes.pitfalls.plain_text.generator_without_await:app") as server:
        assert answers(server)
        with raw_get(server.port, path) as answer:
            assert answer.chunk() == b"ticket 1\n"
        if frozen:
            monkeypatch.setattr(servers, "WAIT", 2)
        assert answers(server) != frozen
        if frozen:
            # Nor does it listen to anything else.
            for number in (signal.SIGINT, signal.SIGTERM):
                server.signal(number)
                with pytest.raises(AssertionError, match="did not end"):
                    server.wait(0.5)
            server.signal(signal.SIGKILL)
