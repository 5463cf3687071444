"""The `cookbook` command: what it prints, and how it ends."""

import inspect
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import psutil
import pytest
from fastapi import FastAPI
from typer.testing import CliRunner

from cookbook import catalog, cli, proxy, redis, site, upstream
from cookbook.__main__ import main
from cookbook.catalog import Recipe
from cookbook.llm import provider
from tests.kit import servers
from tests.kit.servers import free_port, raw_get

COLUMNS = 80
runner = CliRunner(env={"COLUMNS": str(COLUMNS), "TERM": "dumb"})


@pytest.fixture
def bound(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Collect every address that a socket is bound to."""
    addresses: list[object] = []
    bind = socket.socket.bind

    def noted(self: socket.socket, address: tuple[str, int]) -> None:
        addresses.append(address)
        bind(self, address)

    monkeypatch.setattr(socket.socket, "bind", noted)
    return addresses


@contextmanager
def no_provider(_: object) -> Iterator[Future[provider.Provider]]:
    """Promise a provider that is there already."""
    promise: Future[provider.Provider] = Future()
    promise.set_result(provider.Provider("yours", "Somebody answers."))
    yield promise


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[site.Server]:
    """Collect what would be served, and do not serve it."""
    servers: list[site.Server] = []

    def run(self: site.Server, sockets: list[socket.socket]) -> None:
        servers.append(self)
        for listener in sockets:
            listener.close()

    monkeypatch.setattr(site.Server, "run", run)
    monkeypatch.setattr(provider, "starting", no_provider)  # It would take seconds.
    monkeypatch.setenv(upstream.VARIABLE, "http://127.0.0.1:9")  # It would listen.
    monkeypatch.setattr(proxy, "nginx", lambda: None)  # So would this.
    return servers


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Collect builds of the site, and do not build it."""
    builds: list[str] = []
    create_app = site.create_app
    monkeypatch.setattr(site, "build", lambda: builds.append("built"))
    monkeypatch.setattr(site, "create_app", lambda **more: create_app(tmp_path, **more))
    return builds


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_list_shows_every_recipe_with_a_request_to_try(bound: list[object]) -> None:
    result = runner.invoke(cli.app, ["list"])
    assert (result.exit_code, result.stderr, bound) == (0, "", [])
    assert result.stdout.splitlines() == [
        line
        for recipe in catalog.recipes()
        for line in (f"{recipe.slug}  {recipe.summary}", f"  {recipe.tries[0]}")
    ]


LONG = Recipe(
    slug="tea",
    summary=f"Pour [green] tea{' and more' * 20}.",
    run="uvicorn recipes.tea:app",
    tries=(f"curl -N 'http://127.0.0.1:8000/tea?sorts=[green]&note={'x' * 100}'",),
)


def test_a_recipe_that_cannot_be_read_is_listed_with_its_problem(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = Recipe("pot", "", "", (), problem="SyntaxError: [invalid] syntax")
    monkeypatch.setattr(catalog, "recipes", lambda: [broken, LONG])
    result = runner.invoke(cli.app, ["list"])
    assert result.stderr == "pot  SyntaxError: [invalid] syntax\n"
    assert "tea" in result.stdout


def test_run_says_why_a_recipe_cannot_be_imported(
    served: list[site.Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(_: Recipe) -> FastAPI:
        raise SystemExit("no kettle\nat all")

    monkeypatch.setattr(Recipe, "load", load)
    result = runner.invoke(cli.app, ["run", "plain_text"])
    assert (result.exit_code, result.stdout, served) == (1, "", [])
    assert result.stderr == "plain_text cannot be imported: SystemExit: no kettle\n"


def test_run_names_the_page_of_a_recipe_that_has_one(served: list[site.Server]) -> None:
    port = str(free_port())
    for slug, there in {"sse_basic": True, "plain_text": False}.items():
        result = runner.invoke(cli.app, ["run", slug, "--port", port])
        said = f"  http://127.0.0.1:{port}/ is its page\n" in result.stdout
        assert said == there
    assert len(served) == 2


def test_the_site_a_recipe_and_the_model_have_ports_of_their_own() -> None:
    def port(command: Callable[..., None]) -> int:
        default: int = inspect.signature(command).parameters["port"].default
        return default

    assert (port(cli.serve), port(cli.run), port(cli.llm)) == (8080, 8000, 8001)


@pytest.mark.parametrize("command", [["list"], ["run", "tea"]], ids=lambda c: c[0])
def test_a_long_line_is_neither_cut_nor_read_as_markup(
    command: list[str], served: list[site.Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "recipes", lambda: [LONG])
    monkeypatch.setattr(Recipe, "load", lambda _: FastAPI())
    if command[0] == "run":
        command = [*command, "--port", str(free_port())]
    result = runner.invoke(cli.app, command)
    assert result.exit_code == 0
    summary, request, *_ = result.stdout.splitlines()
    assert summary.endswith(LONG.summary)
    assert request.endswith(LONG.tries[0].partition("8000")[2])
    assert len(served) == (command[0] == "run")


def test_run_prints_every_request_for_its_own_port(
    served: list[site.Server], bound: list[object]
) -> None:
    port = free_port()
    bound.clear()
    result = runner.invoke(cli.app, ["run", "plain_text", "--port", str(port)])
    assert result.exit_code == 0
    first, *requests, how_to_stop, stopped = result.stdout.splitlines()
    assert first == "Serving plain_text: Send text while it is being made."
    tries = catalog.find("plain_text").tries
    assert requests == [f"  {t.replace(':8000/', f':{port}/')}" for t in tries]
    assert (how_to_stop, stopped) == ("Ctrl+C stops it", "Stopped.")
    assert len(served) == 1
    assert bound == [("127.0.0.1", port)]


@pytest.mark.parametrize(
    ("slug", "hint"),
    [
        ("plain_txt", "Did you mean plain_text?"),
        ("zzz", "cookbook list shows them all."),
    ],
)
def test_run_does_not_know_every_recipe(
    slug: str, hint: str, served: list[site.Server], bound: list[object]
) -> None:
    result = runner.invoke(cli.app, ["run", slug])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"There is no recipe '{slug}'. {hint}\n"
    assert (served, bound) == ([], [])


@pytest.mark.parametrize(
    ("command", "way_out"),
    [
        (["serve"], "make serve PORT={}"),
        (["run", "plain_text"], "cookbook run plain_text --port {}"),
    ],
    ids=["serve", "run"],
)
def test_a_port_that_is_taken_is_one_line_with_a_way_out(
    command: list[str],
    way_out: str,
    taken_port: int,
    served: list[site.Server],
    built: list[str],
) -> None:
    result = runner.invoke(cli.app, [*command, "--port", str(taken_port)])
    assert (result.exit_code, result.stdout) == (1, "")
    hint = way_out.format(taken_port + 1)
    assert result.stderr == (
        f"Port {taken_port} is taken. Stop what uses it, or take another: {hint}\n"
    )
    assert (served, built) == ([], [])


def test_after_the_last_port_comes_the_first_in_the_hint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: tuple[str, int]) -> socket.socket:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket, "create_server", refuse)
    result = runner.invoke(cli.app, ["serve", "--port", "65535"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "Cannot listen on port 65535: Permission denied. Try: make serve PORT=1\n"
    )


@pytest.mark.parametrize("command", [["serve"], ["run", "plain_text"]])
@pytest.mark.parametrize("port", ["0", "65536", "-1", "tea"])
def test_a_port_out_of_range_is_refused(
    command: list[str], port: str, served: list[site.Server], bound: list[object]
) -> None:
    result = runner.invoke(cli.app, [*command, "--port", port])
    assert result.exit_code == 2
    assert "Invalid value for '--port'" in result.stderr
    assert (served, bound) == ([], [])


@pytest.mark.parametrize(
    ("stale", "line"),
    [(True, r"Built the site in \d+\.\d s"), (False, "The site is up to date")],
    ids=["stale", "up to date"],
)
def test_serve_builds_the_site_only_if_it_is_stale(
    stale: bool,
    line: str,
    built: list[str],
    served: list[site.Server],
    bound: list[object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(site, "is_stale", lambda: stale)
    port = free_port()
    bound.clear()
    result = runner.invoke(cli.app, ["serve", "--port", str(port)])
    assert result.exit_code == 0, result.output
    assert re.search(f"^{line}$", result.stdout, re.MULTILINE)
    assert f"the site: http://127.0.0.1:{port}\n" in result.stdout
    assert (len(built), len(served)) == (stale, 1)
    assert bound == [("127.0.0.1", port)]


def test_a_site_that_cannot_be_built_is_told_in_the_words_of_its_builder(
    built: list[str], served: list[site.Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError("WARNING - [tea](tea.md): no such page")

    monkeypatch.setattr(site, "build", fail)
    monkeypatch.setattr(site, "is_stale", lambda: True)
    result = runner.invoke(cli.app, ["serve", "--port", str(free_port())])
    assert (result.exit_code, served, built) == (1, [], [])
    assert result.stderr == (
        "The site cannot be built:\nWARNING - [tea](tea.md): no such page\n"
    )


@pytest.mark.parametrize(
    "command", [[], ["serve"], ["run"], ["list"], ["take"]], ids=str
)
def test_help_says_what_a_command_does(command: list[str]) -> None:
    result = runner.invoke(cli.app, [*command, "--help"])
    assert result.exit_code == 0
    said = {
        "": "Serve one recipe.",
        "serve": "Serve the site and every recipe, in one process.",
        "run": "Serve one recipe.",
        "list": "List the recipes, each with a request to try.",
        "take": "Put a recipe, its clients and a test into a project of yours.",
    }
    assert said["".join(command)] in result.stdout


INSTALLED = [str(Path(sys.executable).with_name("cookbook"))]


@pytest.mark.timeout(servers.START + 10)
@pytest.mark.parametrize("command", [INSTALLED, [sys.executable, "-m", "cookbook"]])
def test_the_command_is_installed_under_its_name(command: list[str]) -> None:
    done = subprocess.run(
        [*command, "list"], capture_output=True, text=True, timeout=servers.START
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "plain_text" in done.stdout


def test_ctrl_c_while_the_command_is_loaded_leaves_no_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(name: str, *_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt(name)

    # Taken out of the cache, the module is looked for, and found no more.
    monkeypatch.delitem(sys.modules, "cookbook.cli")
    monkeypatch.setattr(sys, "meta_path", [SimpleNamespace(find_spec=interrupted)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130


@pytest.mark.timeout(servers.START + 10)
def test_a_recipe_that_runs_is_served_to_this_machine_only() -> None:
    port = free_port()
    command = [sys.executable, "-u", "-m", "cookbook.cli", "run", "csv_export"]
    with servers.serve([*command, "--port", str(port)], port) as server:
        with raw_get(port, "/orders.csv?rows=1") as answer:
            assert answer.chunk().startswith(b"id,")
        connections = psutil.Process(server.process.pid).net_connections("inet")
        listening = [c.laddr for c in connections if c.status == psutil.CONN_LISTEN]
        assert listening == [("127.0.0.1", port)]
        assert f"curl -N 'http://127.0.0.1:{port}/orders.csv" in server.output()


@pytest.mark.timeout(servers.START + 10)
def test_a_redis_is_served_to_this_machine_only_and_ends_with_the_command() -> None:
    if redis.program() is None:
        servers.need("Redis", redis.HOW)
    port = free_port()
    command = [sys.executable, "-u", "-m", "cookbook.cli", "redis", "--port", str(port)]
    with servers.serve(command, port) as server:
        server.expect(f"Serving an empty Redis: redis://127.0.0.1:{port}/0")
        (child,) = psutil.Process(server.process.pid).children()
        listening = [c.laddr for c in child.net_connections("inet")]
        assert ("127.0.0.1", port) in listening
        server.signal(signal.SIGTERM)
        server.wait()
        child.wait(servers.WAIT)


def test_a_machine_without_redis_is_told_how_to_get_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(redis, "program", lambda: None)
    result = runner.invoke(cli.app, ["redis", "--port", str(free_port())])
    assert result.exit_code == 1
    assert f"Redis is missing: {redis.HOW}" in result.stderr
