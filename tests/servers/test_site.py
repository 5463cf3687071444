"""The site and every recipe in one process: `cookbook serve`."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx2
import psutil
import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.responses import StreamingResponse

from cookbook import catalog, site
from cookbook.catalog import ROOT, Recipe
from cookbook.transcript import exchange, file_of
from tests.kit import servers
from tests.kit.asgi import drive, note
from tests.kit.servers import WAIT, Server, free_port, raw_get
from tests.servers.endless import FLOOD

BUILD = 60  # seconds to build the site, at most

of_a_process = pytest.mark.timeout(servers.START + BUILD)
every_recipe = pytest.mark.parametrize(
    "recipe", catalog.recipes(), ids=lambda recipe: recipe.slug
)

# One more recipe, for the copy of the book that is served here.
ENDLESS = '''"""Stream without an end, by every layer.

Run it:   uvicorn recipes.endless:app
Try it:   curl -N http://127.0.0.1:8000/plain
"""

from tests.servers.endless import with_sse_starlette

app = with_sse_starlette()
'''


# In one process, without a server


HERE = "http://127.0.0.1"


@dataclass(frozen=True)
class Loaded(Recipe):
    """A recipe whose application is there already."""

    app: FastAPI = field(default_factory=FastAPI)

    def load(self) -> FastAPI:
        """Give the application."""
        return self.app


@pytest.fixture
def mounted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Starlette]:
    """Give a function that mounts applications by name, with an empty site."""

    def mount(**apps: FastAPI) -> Starlette:
        found = [Loaded(slug, "Tea.", "", (), app=app) for slug, app in apps.items()]
        monkeypatch.setattr(site, "recipes", lambda: found)
        return site.create_app(tmp_path)

    return mount


def shop(name: str, journal: list[str]) -> FastAPI:
    """Make an application with a state of its own."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
        journal.append(f"{app.title} opens")
        yield {name: f"open by {app.title}"}
        journal.append(f"{app.title} closes")

    app = FastAPI(title=name, lifespan=lifespan)

    @app.get("/state")
    def state(request: Request) -> dict[str, str]:
        known: dict[str, str] = dict(request.state._state)
        request.state.visited = "yes"
        return known

    @app.get("/where")
    def where(request: Request) -> list[str]:
        return [request.scope["root_path"], str(request.url_for("where"))]

    return app


def test_every_recipe_lives_from_start_to_stop(
    mounted: Callable[..., Starlette],
) -> None:
    journal: list[str] = []
    app = mounted(tea=shop("tea", journal), pots=shop("pots", journal))
    with TestClient(app, base_url=HERE):
        assert journal == ["tea opens", "pots opens"]
    assert journal[2:] == ["pots closes", "tea closes"]


def test_no_recipe_sees_the_state_of_another_nor_of_an_earlier_request(
    mounted: Callable[..., Starlette],
) -> None:
    with TestClient(
        mounted(tea=shop("tea", []), pots=shop("pots", [])), base_url=HERE
    ) as client:
        for _ in range(2):
            tea = client.get("/live/tea/state").json()
            assert tea == {"tea": "open by tea"}
            pots = client.get("/live/pots/state").json()
            assert pots == {"pots": "open by pots"}


def test_a_recipe_knows_where_it_is_mounted(
    mounted: Callable[..., Starlette],
) -> None:
    with TestClient(mounted(tea=shop("tea", [])), base_url=HERE) as client:
        here = ["/live/tea", "http://127.0.0.1/live/tea/where"]
        assert client.get("/live/tea/where").json() == here
        api = client.get("/live/tea/openapi.json").json()
        assert api["servers"] == [{"url": "/live/tea"}]


def test_a_recipe_can_ask_whether_its_client_has_left(
    mounted: Callable[..., Starlette],
) -> None:
    tea = FastAPI()

    @tea.get("/left")
    async def left(request: Request) -> StreamingResponse:
        async def asked() -> AsyncIterator[str]:
            yield "first"
            note(f"left: {await request.is_disconnected()}")

        return StreamingResponse(asked())

    target, host = "/live/tea/left", {"host": "localhost"}
    app = mounted(tea=tea)
    assert "left: False" in drive(app, target, headers=host).journal


def test_only_names_of_this_machine_are_answered(
    mounted: Callable[..., Starlette],
) -> None:
    app = mounted(tea=shop("tea", []))
    for host, status in {"127.0.0.1:8000": 200, "evil.example": 400}.items():
        headers = {"host": host}
        assert drive(app, "/live/index.json", headers=headers).status == status


def test_a_request_with_a_body_gets_it_whole(
    mounted: Callable[..., Starlette],
) -> None:
    tea = FastAPI()

    @tea.post("/")
    async def pour(request: Request) -> int:
        return len(await request.body())

    with TestClient(mounted(tea=tea), base_url=HERE) as client:
        assert client.post("/live/tea/", content=b"x" * 100_000).json() == 100_000


# One recipe cannot take the others down


class Unimportable(Recipe):
    """A recipe whose module raises."""

    def load(self) -> FastAPI:
        """Fail as an import does."""
        raise ModuleNotFoundError("No module named 'kettle'\nand more")


@asynccontextmanager
async def fails_at_start(app: FastAPI) -> AsyncIterator[None]:
    if app.title:
        raise OSError("no water")
    yield


@asynccontextmanager
async def fails_at_end(_: FastAPI) -> AsyncIterator[None]:
    yield
    raise OSError("the pot broke")


def test_a_recipe_that_does_not_run_leaves_the_others_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal: list[str] = []
    found = [
        Recipe("unread", "", "", (), problem="SyntaxError: '(' was never closed"),
        Unimportable("unimportable", "Tea.", "", ()),
        Loaded("dry", "Tea.", "", (), app=FastAPI(lifespan=fails_at_start)),
        Loaded("cracked", "Tea.", "", (), app=FastAPI(lifespan=fails_at_end)),
        Loaded("tea", "Tea.", "", (), app=shop("tea", journal)),
    ]
    monkeypatch.setattr(site, "recipes", lambda: found)
    with TestClient(site.create_app(tmp_path), base_url=HERE) as client:
        known = client.get("/live/index.json").json()["recipes"]
        assert {slug: about["problem"] for slug, about in known.items()} == {
            "unread": "SyntaxError: '(' was never closed",
            "unimportable": "It cannot be imported: ModuleNotFoundError: "
            "No module named 'kettle'",
            "dry": "Its lifespan fails: OSError: no water",
            "cracked": None,
            "tea": None,
        }
        answer = client.get("/live/dry/")
        assert (answer.status_code, answer.text) == (
            503,
            "dry: Its lifespan fails: OSError: no water\n",
        )
        assert client.get("/live/tea/state").status_code == 200
    assert journal == ["tea opens", "tea closes"]
    assert [record.getMessage() for record in caplog.records] == [
        "unread is not served. SyntaxError: '(' was never closed",
        "unimportable is not served. It cannot be imported: ModuleNotFoundError: "
        "No module named 'kettle'",
        "dry is not served. Its lifespan fails: OSError: no water",
        "cracked: its lifespan fails at its end: OSError: the pot broke",
    ]


def test_an_address_of_a_recipe_is_told_where_it_lives_on_the_site(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tea = FastAPI()

    @tea.get("/cups/{number}")
    @tea.post("/cups/{number}")
    def cup(number: int) -> int:
        return number

    tries = ("curl http://127.0.0.1:8000/cups/1",)
    known = Loaded("tea", "Tea.", "", tries, app=tea)
    monkeypatch.setattr(site, "recipes", lambda: [known])
    with TestClient(site.create_app(tmp_path), base_url=HERE) as client:
        for answer in (client.get("/cups/7"), client.post("/cups/7")):
            assert answer.status_code == 404
            assert "/live/tea/cups/7" in answer.text
            assert "uvicorn recipes.tea:app" in answer.text
        assert "tea" not in client.get("/openapi.json").text, "no request of a recipe"
        assert "tea" not in client.get("/cups").text


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a small book whose site was built from its pages."""
    for page in PAGES:
        path = tmp_path / page
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    monkeypatch.setattr(site, "ROOT", tmp_path)
    monkeypatch.setattr(site, "BUILT", tmp_path / "site")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / site.STAMP).write_text(site.fingerprint())
    return tmp_path


PAGES = [
    "mkdocs.yml",
    "docs/index.md",
    "recipes/tea.py",
    "tests/a/test_tea.py",
    "notebooks/tea.ipynb",
]


def test_a_site_made_from_its_pages_is_not_stale(book: Path) -> None:
    assert not site.is_stale()
    (book / "recipes" / "__pycache__").mkdir()
    (book / "recipes" / "__pycache__" / "tea.pyc").touch()
    assert not site.is_stale()


@pytest.mark.parametrize("page", PAGES)
def test_a_file_that_is_changed_removed_or_new_makes_the_site_stale(
    book: Path, page: str
) -> None:
    (book / page).write_text("other")
    assert site.is_stale()
    (book / site.BUILT / site.STAMP).write_text(site.fingerprint())
    (book / page).unlink()
    assert site.is_stale()
    (book / site.BUILT / site.STAMP).write_text(site.fingerprint())
    (book / "docs" / "new.md").touch()
    assert site.is_stale()


def test_a_site_that_was_never_built_is_stale(book: Path) -> None:
    (book / "site" / site.STAMP).unlink()
    assert site.is_stale()


# Builds


@of_a_process
def test_two_builds_at_once_leave_one_whole_site(
    book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, go = threading.Barrier(3), threading.Event()

    def mkdocs(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        folder = Path(command[-1])
        folder.mkdir()
        (folder / "index.html").write_text("whole")
        started.wait(WAIT)
        assert go.wait(WAIT)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", mkdocs)
    with ThreadPoolExecutor(2) as pool:
        builds = [pool.submit(site.build) for _ in range(2)]
        started.wait(WAIT)
        go.set()
        for build in builds:
            build.result(5)
    assert (site.BUILT / "index.html").read_text() == "whole"
    assert not site.is_stale()
    assert not list(book.glob(".site-*"))


@of_a_process
def test_sigterm_while_building_leaves_nothing_behind(
    tree: Path, tmp_path: Path
) -> None:
    half = shutil.copytree(tree, tmp_path / "half")
    shutil.rmtree(half / "site")
    # A builder that never ends, and says when it has begun.
    (half / "mkdocs").mkdir()
    (half / "mkdocs/__init__.py").touch()
    slow = "import pathlib, time; pathlib.Path('begun').touch(); time.sleep(600)"
    (half / "mkdocs/__main__.py").write_text(slow)
    log = tmp_path / "log"
    with log.open("w") as output:
        process = subprocess.Popen(command(free_port()), cwd=half, stdout=output)
        try:
            servers.until((half / "begun").exists, seconds=servers.START)
            builder = psutil.Process(process.pid).children(recursive=True)
            process.terminate()
            assert process.wait(servers.WAIT) == 128 + signal.SIGTERM
        finally:
            process.kill()
    _, alive = psutil.wait_procs(builder, timeout=servers.WAIT)
    assert builder
    assert alive == []
    assert not list(half.glob(".site-*"))


# As a process


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory, built_site: Path) -> Path:
    """Copy the book and its site, and add a recipe whose streams never end."""
    tree = tmp_path_factory.mktemp("book")
    for name in ("cookbook", "LICENSE", *site.SOURCES):
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
            shutil.copytree(ROOT / name, tree / name, ignore=ignored)
        elif (ROOT / name).exists():
            shutil.copy2(ROOT / name, tree / name)
    (tree / "recipes" / "endless.py").write_text(ENDLESS, "utf-8")
    shutil.copytree(built_site, tree / "site")
    stamp = "(site.BUILT / site.STAMP).write_text(site.fingerprint())"
    code = f"from cookbook import site; {stamp}"
    subprocess.run([sys.executable, "-c", code], cwd=tree, check=True, timeout=BUILD)
    return tree


def command(port: int) -> list[str]:
    return [sys.executable, "-u", "-m", "cookbook.cli", "serve", "--port", str(port)]


def cookbook_serve(tree: Path) -> AbstractContextManager[Server]:
    port = free_port()
    # As for most people: an import writes `__pycache__`.
    env = {"PYTHONDONTWRITEBYTECODE": ""}
    return servers.serve(command(port), port, cwd=tree, env=env)


@pytest.fixture(scope="module")
def server(tree: Path) -> Iterator[Server]:
    with cookbook_serve(tree) as running:
        running.expect("Ctrl+C stops it", servers.START)
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=f"http://127.0.0.1:{server.port}") as client:
        yield client


@of_a_process
def test_the_site_is_served_at_the_root(client: httpx2.Client) -> None:
    index = client.get("/")
    assert index.status_code == 200
    assert "Which recipe do I need?" in index.text
    assert client.get("/recipes/plain_text/").status_code == 200
    assert client.get("/no-such-page/").status_code == 404


@of_a_process
def test_the_index_of_what_lives_names_every_recipe(client: httpx2.Client) -> None:
    slugs = sorted([*(recipe.slug for recipe in catalog.recipes()), "endless"])
    known = client.get("/live/index.json").json()["recipes"]
    assert sorted(known) == slugs
    assert known["sse_basic"]["page"] == "live/sse_basic/"
    assert known["plain_text"]["page"] is None
    assert known["llm_chat"]["needs"] == ["model"]
    (asked,) = known["llm_chat"]["requests"]
    assert (asked["method"], asked["path"]) == ("POST", "/chat/stream")
    assert asked["headers"]["content-type"] == "application/json"
    assert json.loads(asked["body"])["messages"]
    assert asked["line"].startswith("curl -N ")


@of_a_process
@every_recipe
def test_every_request_of_a_recipe_works_below_its_mount(
    recipe: Recipe, server: Server
) -> None:
    recorded = file_of(recipe).read_text("utf-8")
    jar: dict[str, str] = {}
    for line, request in zip(recipe.tries, recipe.requests, strict=True):
        below = replace(request, path=f"/live/{recipe.slug}{request.path}")
        heading, *_ = exchange(server.url, below, jar)
        assert f"$ {line}\n{heading}\n" in recorded


@of_a_process
@pytest.mark.parametrize("path", ["/plain", "/native", "/sse-starlette"])
def test_a_chunk_comes_through_the_mount_while_its_stream_goes_on(
    path: str, server: Server
) -> None:
    # What comes from a stream without an end was not gathered up to the end.
    with raw_get(server.port, f"/live/endless{path}") as answer:
        assert b"placed" in answer.chunk()


@of_a_process
def test_the_chunks_of_a_recipe_stay_what_they_are(server: Server) -> None:
    with raw_get(server.port, "/live/plain_text/async/1") as answer:
        chunks = list(iter(answer.chunk, b""))
    assert [chunk.count(b"\n") for chunk in chunks] == [1] * 5


@of_a_process
def test_the_page_of_a_recipe_finds_its_streams_below_the_mount(
    client: httpx2.Client,
) -> None:
    # A browser resolves what the page names against the address of the page.
    page = client.get("/live/sse_basic/")
    layers = re.findall("<option>(.+)</option>", page.text)
    assert layers == ["native", "by-hand", "sse-starlette"]
    for layer in layers:
        with client.stream("GET", page.url.join(layer)) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")


@of_a_process
def test_an_address_copied_from_a_page_is_told_where_it_lives_here(
    client: httpx2.Client,
) -> None:
    answer = client.get("/orders.csv?rows=5")
    assert answer.status_code == 404
    assert "/live/csv_export/orders.csv" in answer.text
    assert len(answer.content) < 500


@of_a_process
def test_a_recipe_is_found_without_the_last_slash_as_well(
    client: httpx2.Client,
) -> None:
    answer = client.get("/live/sse_basic")
    assert (answer.status_code, answer.headers["location"]) == (307, "sse_basic/")
    answer = client.get("/live/sse_basic?x=1")
    assert answer.headers["location"] == "sse_basic/?x=1"


def test_nothing_listens_but_on_this_machine(server: Server) -> None:
    connections = psutil.Process(server.process.pid).net_connections("inet")
    listening = [c.laddr for c in connections if c.status == psutil.CONN_LISTEN]
    # The other one is the service that one recipe passes on.
    assert {address.ip for address in listening} == {"127.0.0.1"}
    assert server.port in {address.port for address in listening}


OPEN = [
    "/live/endless/plain",
    "/live/endless/native",
    "/live/endless/sse-starlette",
    "/live/csv_export/orders.csv?rows=10000000",
]


@of_a_process
@pytest.mark.usefixtures("server")
def test_a_second_start_does_not_build_the_site_again(tree: Path) -> None:
    # The first start has imported the recipes, and so written into their directory.
    with cookbook_serve(tree) as starting:
        assert "The site is up to date\n" in starting.expect(
            "Ctrl+C stops it", servers.START
        )
    assert "Built" not in starting.output()


@of_a_process
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
def test_a_signal_ends_it_although_streams_are_open(
    stop: signal.Signals, tree: Path
) -> None:
    with cookbook_serve(tree) as starting, ExitStack() as streams:
        starting.expect("Ctrl+C stops it", servers.START)
        for path in OPEN:
            streams.enter_context(raw_get(starting.port, path)).chunk()
        # A client that reads no further: the server cannot get rid of its bytes.
        flood = streams.enter_context(raw_get(starting.port, "/live/endless/flood"))
        assert int(flood.stream.readline(), 16) == FLOOD
        # To the whole group, as a terminal does.
        os.killpg(starting.process.pid, stop)
        code = starting.wait(WAIT)
    assert code == (0 if stop == signal.SIGINT else -stop)
    # Nothing that was cut short is reported as an error.
    _, said = starting.output().split("Ctrl+C stops it\n")
    stopped = ["Stopped."] if stop == signal.SIGINT else []
    assert said.splitlines() == ["cleaned up"] * 3 + stopped


@of_a_process
def test_a_port_that_is_taken_is_one_line_with_a_way_out(
    tree: Path, server: Server
) -> None:
    done = subprocess.run(
        command(server.port), cwd=tree, capture_output=True, text=True, timeout=BUILD
    )
    assert (done.returncode, done.stdout) == (1, "")
    way_out = f"make serve PORT={server.port + 1}"
    assert done.stderr == (
        f"Port {server.port} is taken. Stop what uses it, or take another: {way_out}\n"
    )


@of_a_process
@pytest.mark.parametrize(
    ("mistake", "told"),
    [
        ('--8<-- "recipes/tea.py"', "Snippet at path 'recipes/tea.py' could"),
        ("[broken](nowhere.md)", "a link 'nowhere.md', but the target"),
    ],
)
def test_a_page_that_changed_is_built_and_its_mistake_told_as_mkdocs_does(
    mistake: str, told: str, tree: Path, tmp_path: Path
) -> None:
    broken = shutil.copytree(tree, tmp_path / "broken")
    page = broken / "docs" / "recipes" / "plain_text.md"
    page.write_text(page.read_text("utf-8") + f"\n{mistake}\n", "utf-8")
    done = subprocess.run(
        command(free_port()), cwd=broken, capture_output=True, text=True, timeout=BUILD
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("The site cannot be built:\n")
    assert told in done.stderr
    assert "'recipes/plain_text.md'" in done.stderr
