"""docs/recipes/typed_client.md: the types are generated, and the clients run."""

import asyncio
import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, aclosing
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from cookbook.catalog import ROOT
from recipes.pitfalls.typed_client import model_not_told
from tests.kit import clients, node, servers
from tests.kit import typed_client as kit
from tests.kit.changed import changed
from tests.kit.servers import Server, need, raw_get, until, uvicorn

if TYPE_CHECKING:  # mypy checks the client with this file; a reader's has no package
    import typed_client

pytestmark = pytest.mark.timeout(servers.START + 120)  # npm may have to install

WATCHED = "tests.servers.watched_typed_client:app"
PATH = "/orders/7/events"
MANY = 100  # clients that leave abruptly
LINES = [
    "placed: tea, teapot",
    "paid: 34.80 €",
    "shipped with Snail & Sons, expected on a Thursday",
    "delivered, signed by nobody",
]
PLACED = 'data: {"type":"placed","items":["tea"]}\nid: 7-1\n\n'


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Run the recipe, led by the test."""
    with uvicorn(WATCHED) as running:
        yield running


@pytest.fixture
def led(server: Server) -> Server:
    """Give that server, begun anew."""
    return plan(server)


def plan(server: Server, allowed: int = 9, **fault: list[dict[str, Any]]) -> Server:
    """Say which events come, and what goes wrong with the next requests."""
    told = {"allowed": allowed, **fault}
    httpx2.post(f"{server.url}/plan", json=told).raise_for_status()
    return server


def counts(server: Server) -> dict[str, Any]:
    """Ask what was asked, and what is open."""
    found: dict[str, Any] = httpx2.get(f"{server.url}/counts").json()
    return found


# The types


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a copy of the client's folder, as a reader makes one."""
    return kit.copied(tmp_path_factory.mktemp("typed_client"))


def npm(name: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run one of the client's scripts, as the page says."""
    program = shutil.which("npm") or need("npm", "install Node 20 or newer")
    command = [program, "run", "--silent", name]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def tsc(folder: Path) -> str:
    """Give what TypeScript says of the files in a folder; nothing if all is well."""
    program = node.modules() / ".bin/tsc"  # the quick one
    done = subprocess.run([program], cwd=folder, capture_output=True, text=True)
    return done.stdout + done.stderr


def mypy(folder: Path) -> str:
    """Give what mypy says of the Python client in a folder, without its libraries."""
    command = [sys.executable, "-m", "mypy", "--follow-imports=skip"]
    command += [f"--cache-dir={folder}", "typed_client.py", "typed_client_models.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return done.stdout + done.stderr


def test_the_types_for_typescript_are_those_of_the_schema(client: Path) -> None:
    kept = (kit.CLIENT / "schema.ts").read_text("utf-8")
    assert npm("types", client).returncode == 0
    assert (client / "schema.ts").read_text("utf-8") == kept, "run make docs"


def test_the_models_for_python_are_those_of_the_schema(tmp_path: Path) -> None:
    (tmp_path / "openapi.json").write_text(kit.schema(), "utf-8")
    assert kit.in_python(tmp_path) == kit.MODELS.read_text("utf-8"), "run make docs"


def test_the_client_in_typescript_keeps_to_the_types(client: Path) -> None:
    done = npm("check", client)
    assert (done.stdout, done.returncode) == ("", 0)


def test_mypy_checks_the_python_client_with_the_rest_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    # So the import at the top of this file leads to it.
    assert project["tool"]["mypy"]["mypy_path"] == ["docs/clients"]
    assert project["tool"]["mypy"]["strict"]


def test_break_it_a_changed_model_turns_tsc_and_mypy_red(tmp_path: Path) -> None:
    folder = changed(tmp_path / "shop", "typed_client", *kit.CHANGE)
    client = kit.copied(tmp_path)
    (client / "openapi.json").write_text(kit.schema(kit.app_in(folder)), "utf-8")
    # Nobody sees it before the types are generated anew.
    assert tsc(client) == ""
    kept = (kit.CLIENT / "schema.ts").read_text("utf-8")
    assert kit.in_typescript(client) != kept
    assert kit.in_python(client) != kit.MODELS.read_text("utf-8")
    assert "'event.cents' is possibly 'null'" in tsc(client)
    shutil.copy(kit.MODELS.with_name("typed_client.py"), client)
    assert 'Unsupported operand types for / ("None" and "int")' in mypy(client)


def test_a_type_more_is_missed_in_each_place_that_has_to_know_it(
    tmp_path: Path,
) -> None:
    client = kit.copied(tmp_path)
    text = (client / "schema.ts").read_text("utf-8")
    more = 'OrderEvent: { type: "refunded" } | '
    (client / "schema.ts").write_text(text.replace("OrderEvent: ", more, 1), "utf-8")
    said = tsc(client)
    assert "stream.ts" in said
    assert "Property 'refunded' is missing" in said
    assert "Order.tsx" in said
    assert "does not satisfy the expected type 'never'" in said


def test_without_the_model_the_generated_type_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "openapi.json").write_text(kit.schema(model_not_told.app), "utf-8")
    assert '"text/event-stream": unknown;' in kit.in_typescript(tmp_path)


# The iterator in TypeScript


@pytest.fixture(scope="module")
def built(client: Path) -> Path:
    """Build the client as the page says; give the folder of what is built."""
    done = npm("build", client)
    assert done.returncode == 0, done.stderr
    return client / "dist"


@pytest.fixture(scope="module")
def driven(client: Path, built: Path) -> dict[str, Any]:
    """Drive the iterator with answers of our own; give what came of each."""
    stream = built / "stream.mjs"
    kit.run(
        "node_modules/.bin/esbuild stream.ts --bundle --format=esm "
        f"--log-level=error --outfile={stream}",
        client,
    )
    driver = str(ROOT / "tests/servers/typed_client.mjs")
    done = subprocess.run(["node", driver, str(stream)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


ALL = ["placed", "paid", "delivered"]


def test_it_survives_every_split_of_the_stream(driven: dict[str, Any]) -> None:
    assert driven["whole"] == [
        {"type": "placed", "items": ["tea ☕", "\u2028"]},
        {"type": "paid", "cents": 1},
        {"type": "delivered", "signed_by": "Zoë"},
    ]
    assert driven["splits"] == driven["places"] > 100
    assert driven["single"] == ALL


def test_wherever_the_connection_ends_each_event_comes_once(
    driven: dict[str, Any],
) -> None:
    assert driven["cuts"] == driven["places"] + 1


CASES: dict[str, tuple[list[str], list[str], str | None]] = {
    "recovers": (ALL, [""] * 3, None),
    "gives_up": ([], [""] * 5, "TypeError: fetch failed"),
    "gives_up_on_500": ([], [""] * 5, "Error: The server answered 500."),
    "counts_anew": (["placed", *ALL], [""] * 5 + ["7-1"] * 4, None),
    "refused": ([], [""], "Refused: The server answered 422."),
    "no_stream": ([], [""], "Refused: The answer is no event stream."),
    "complete": (["placed"], ["", "7-1"], None),
    "no_json": ([], [""], "Refused: An event is no JSON."),
    "no_object": ([], [""], "Refused: An event has no type."),
    "unknown": (ALL, [""], None),
    "stopped": (["placed"], [""], None),
    "left": (["placed"], [""], None),
    "before": ([], [], None),
}


@pytest.mark.parametrize("case", CASES)
def test_the_iterator_does_what_the_page_says(
    case: str, driven: dict[str, Any]
) -> None:
    """Attack: Events that are no JSON, no object, of no known type: no wrong event."""
    found = driven[case]
    assert (found["types"], found["asked"], found["error"]) == CASES[case]


def test_stop_and_break_close_the_connection(driven: dict[str, Any]) -> None:
    assert driven["left"]["closed"] == 1
    assert driven["while_waiting"]["error"] is None


def test_in_node_it_prints_the_events(built: Path, led: Server, tmp_path: Path) -> None:
    plan(led, faults=[{"cut": 60}, {"status": 503}])
    script = (built / "print.js").read_text("utf-8")
    assert clients.PRINTED in script
    copy = tmp_path / "print.mjs"
    copy.write_text(script.replace(clients.PRINTED, led.url), "utf-8")
    done = subprocess.run(["node", str(copy)], capture_output=True, text=True)
    assert done.stderr == ""
    shipped = "shipped with Snail & Sons"
    assert done.stdout.splitlines() == ["placed", "paid", shipped, "delivered"]
    assert counts(led)["asked"] == ["", "7-1", "7-1"]


# The client in Python


def run(server: Server, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the Python client as a reader does, with shorter waits."""
    shutil.copy(kit.MODELS, folder)
    path = clients.copied("typed_client.py", server.url, folder)
    text = path.read_text("utf-8")
    assert text.count("wait: float = 1.0") == 1
    quick = text.replace("wait: float = 1.0", "wait: float = 0.01")
    path.write_text(quick, "utf-8")
    command = [sys.executable, str(path)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8")


def test_the_python_client_prints_the_events(led: Server, tmp_path: Path) -> None:
    done = run(led, tmp_path)
    assert (done.stderr, done.stdout.splitlines()) == ("", LINES)
    until(lambda: counts(led)["open"] == 0)


def test_it_goes_on_after_a_cut_and_a_server_that_is_away(
    led: Server, tmp_path: Path
) -> None:
    # The second connection ends in the middle of an event.
    plan(led, faults=[{"cut": 60}, {"status": 503}, {"cut": 20}, {"status": 502}])
    done = run(led, tmp_path)
    assert (done.stderr, done.stdout.splitlines()) == ("", LINES)
    assert counts(led)["asked"] == ["", "7-1", "7-1", "7-1", "7-1"]


HOSTILE = {
    "no JSON": "{nonsense",
    "no object": "[]",
    "unknown type": '{"type":"refunded","cents":1}',
    "a field is missing": '{"type":"shipped","carrier":"Snail"}',
    "a field is wrong": '{"type":"paid","cents":"<b>"}',
}


def test_it_refuses_what_is_no_event_of_the_schema(
    monkeypatch: pytest.MonkeyPatch, led: Server
) -> None:
    """Attack: Events that break the schema: the Python client raises, prints none."""
    module = loaded(monkeypatch, led)
    for data in HOSTILE.values():
        body = f"retry: 1\n\n{PLACED}data: {data}\nid: 7-2\n\n"
        plan(led, faults=[{"body": body}])
        types, error = module.collect()
        assert (types, error) == (["placed"], "ValidationError")
        assert len(counts(led)["asked"]) == 1


def test_it_gives_up_where_another_try_would_not_help(
    monkeypatch: pytest.MonkeyPatch, led: Server
) -> None:
    module = loaded(monkeypatch, led)
    cases: list[tuple[dict[str, Any], int, list[str], str | None]] = [
        ({"status": 422}, 1, [], "HTTPStatusError"),
        ({"body": "<html>", "type": "text/html"}, 1, [], "SSEError"),
        ({"status": 500}, 5, [], "HTTPStatusError"),
        ({"status": 204}, 1, [], None),
    ]
    for fault, times, types, error in cases:
        plan(led, faults=[fault] * times)
        assert module.collect() == (types, error)
        assert len(counts(led)["asked"]) == times


def test_it_gives_up_when_nobody_listens(
    monkeypatch: pytest.MonkeyPatch, led: Server
) -> None:
    module = loaded(monkeypatch, led)
    module.client.SERVER = f"http://127.0.0.1:{servers.free_port()}"
    assert module.collect() == ([], "ConnectError")
    assert len(module.waits) == 4


def test_stop_closes_the_stream_on_the_server(
    monkeypatch: pytest.MonkeyPatch, led: Server
) -> None:
    module = loaded(monkeypatch, led)
    plan(led, allowed=1)
    assert module.collect(stop=1) == (["placed"], None)
    until(lambda: counts(led)["open"] == 0)


class Loaded:
    """The client's module, with short waits that are noted."""

    def __init__(self, module: Any, waits: list[float]) -> None:  # noqa: ANN401
        self.client = module
        self.waits = waits

    def collect(self, stop: int = 9) -> tuple[list[str], str | None]:
        """Give the types that came, at most `stop`, and the error's name."""

        async def read() -> tuple[list[str], str | None]:
            types: list[str] = []
            try:
                async with (
                    httpx2.AsyncClient() as asking,
                    aclosing(self.client.order_events(asking, 7, wait=0.001)) as events,
                ):
                    event: typed_client.AnyEvent
                    async for event in events:
                        types.append(event.type)
                        if len(types) == stop:
                            break
            except Exception as error:
                return types, type(error).__name__
            return types, None

        return asyncio.run(read())


def loaded(monkeypatch: pytest.MonkeyPatch, server: Server) -> Loaded:
    """Import the client, for a server of the test."""
    monkeypatch.syspath_prepend(str(kit.MODELS.parent))
    module = import_module("typed_client")
    monkeypatch.setattr(module, "SERVER", server.url)
    waits: list[float] = []
    uniform = module.random.uniform

    def noted(low: float, high: float) -> float:
        waits.append(high)
        found: float = uniform(low, high)
        return found

    monkeypatch.setattr(module.random, "uniform", noted)
    return Loaded(module, waits)


# The recipe on real servers


def test_the_first_event_is_there_before_the_second_is_made(led: Server) -> None:
    plan(led, allowed=1)
    with raw_get(led.port, PATH) as answer:
        assert b'"placed"' in answer.chunk()


def test_a_hundred_clients_that_break_off_leave_no_task(led: Server) -> None:
    plan(led, allowed=1)
    idle = counts(led)["tasks"]
    with ExitStack() as stack:
        answers = [stack.enter_context(raw_get(led.port, PATH)) for _ in range(MANY)]
        for number, answer in enumerate(answers):
            if number % 2:
                assert b'"placed"' in answer.chunk()
        until(lambda: counts(led)["open"] == MANY)
        for answer in answers:
            answer.abort()
    until(lambda: counts(led)["open"] == 0, "the last stream to end")
    until(lambda: counts(led)["tasks"] == idle, "the last task to end")
    assert "Traceback" not in led.output()
    assert "ERROR" not in led.output()


@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_attack_odd_ids_get_the_whole_stream_or_a_4xx(http: str) -> None:
    """Doubled, long and binary Last-Event-IDs: never a 500, nothing is skipped."""
    with uvicorn("recipes.typed_client:app", "--http", http) as odd:
        for last in ("7-1\r\nLast-Event-ID: 7-4", "\xff\xfe", "x" * 4000):
            with raw_get(odd.port, PATH, {"Last-Event-ID": last}) as answer:
                status = answer.head.split()[1]
                assert status in ("200", "400", "431"), last
        assert "Traceback" not in odd.output()


BODY = (
    ': ping\n\ndata: {"type":"placed","items":["tea ☕"]}\nid: 7-1\n\n'
    'data: {"type":"delivered","signed_by":"Zoë"}\nid: 7-4\n\n'
).encode()


class Chunks(httpx2.AsyncByteStream):
    """A body in the chunks that a test wants."""

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = chunks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Give them."""
        for chunk in self.chunks:
            yield chunk


def test_the_python_client_survives_every_split_and_every_end(
    monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    module = loaded(monkeypatch, server).client

    async def read(*answers: Chunks) -> list[str]:
        left = iter(answers)

        def answer(request: httpx2.Request) -> httpx2.Response:
            if request.headers.get("Last-Event-ID") == "7-4":
                return httpx2.Response(204)
            stream = next(left)
            if request.headers.get("Last-Event-ID") == "7-1":
                stream = Chunks(BODY[BODY.index(b"7-1") + 5 :])
            kind = {"Content-Type": "text/event-stream"}
            return httpx2.Response(200, headers=kind, stream=stream)

        transport = httpx2.MockTransport(answer)
        async with httpx2.AsyncClient(transport=transport) as asking:
            events = module.order_events(asking, 7, wait=0)
            return [event.type async for event in events]

    async def all_places() -> None:
        for place in range(len(BODY)):
            halves = Chunks(BODY[:place], BODY[place:])
            assert await read(halves) == ["placed", "delivered"], place
            again = await read(Chunks(BODY[:place]), Chunks(BODY))
            assert again == ["placed", "delivered"], place

    asyncio.run(all_places())
