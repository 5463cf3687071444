"""docs/recipes/llm_openai.md: its claims about real servers and other providers."""

import json
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cookbook.llm import local, scripted
from tests.kit import clients, servers
from tests.kit.changed import changed
from tests.kit.llm import ASK, SILENT, provider_with
from tests.kit.llm_served import (
    GOOD,
    HEAD,
    ask,
    by_model,
    event,
    predicted,
    printed,
    saying,
)
from tests.kit.servers import (
    ROOT,
    Answer,
    Server,
    free_port,
    need,
    raw_get,
    serve,
    uvicorn,
)
from tests.kit.typed import commands, cookbook, typed

pytestmark = pytest.mark.timeout(60)

APP = "recipes.llm_openai:app"
RESPONSES = ASK.replace("/answer", "/responses")
KEY = "sk-canary-4711"
HERE = Path(__file__).parent
AIMOCK = servers.ROOT / ".cache/aimock"
CLI = AIMOCK / "node_modules/@copilotkit/aimock/dist/cli.js"


# The scripted provider


@pytest.fixture(scope="module")
def provider() -> Iterator[scripted.Provider]:
    with scripted.running() as running:
        yield running


@pytest.fixture(scope="module")
def server(provider: scripted.Provider) -> Iterator[Server]:
    env = {**provider.env, "OPENAI_API_KEY": KEY, "OPENAI_MODEL": "gated"}
    with uvicorn(APP, "--timeout-graceful-shutdown", "1", env=env) as running:
        yield running


def test_a_token_is_read_before_the_next_may_be_made(
    server: Server, provider: scripted.Provider
) -> None:
    provider.reset()
    with raw_get(server.port, ASK) as answer:
        assert event(answer)[0] == "start"
        for number, text in enumerate(("Tea", " is", " hot"), start=1):
            provider.go(1)
            assert event(answer) == ("token", {"text": text})
            assert provider.requests()[0].tokens_made == number


@pytest.mark.parametrize("path", [ASK, RESPONSES])
@pytest.mark.parametrize("leave", [Answer.close, Answer.abort])
def test_the_provider_stops_when_the_client_leaves(
    server: Server,
    provider: scripted.Provider,
    leave: Callable[[Answer], None],
    path: str,
) -> None:
    provider.reset()
    with raw_get(server.port, path) as answer:
        provider.go(2)
        assert [event(answer)[0] for _ in range(3)] == ["start", "token", "token"]
        leave(answer)
        # It could make a token only after another `go`: the close came before any.
        assert provider.wait(1).hung_up_after == 2


def test_the_provider_stops_when_the_server_stops(
    server: Server, provider: scripted.Provider
) -> None:
    provider.reset()
    with raw_get(server.port, ASK) as answer:
        provider.go(2)
        assert [event(answer)[0] for _ in range(3)] == ["start", "token", "token"]
        server.signal(signal.SIGTERM)
        assert provider.wait(1).hung_up_after == 2
        assert server.wait() in (0, -signal.SIGTERM)
        with pytest.raises(EOFError):
            answer.rest()
    assert KEY not in server.output()


# A provider that has not answered yet


def test_a_client_that_leaves_before_the_providers_head_ends_the_request() -> None:
    with provider_with(SILENT) as silent:
        env = {**silent.env, "OPENAI_MODEL": "silent"}
        with uvicorn(APP, env=env) as server:
            for number in (1, 2, 3):
                address = (servers.HOST, server.port)
                with socket.create_connection(address, servers.WAIT) as client:
                    client.sendall(f"GET {ASK} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
                    silent.wait(number, until=lambda request: request.id > 0)
                assert silent.wait(number).hung_up_after == 0
            # Nobody asked again for a client that was gone, and nothing was logged.
            assert len(silent.requests()) == 3
            assert "Traceback" not in server.output()
            assert "Error" not in server.output()


# The clients on the page


@pytest.fixture(scope="module")
def cut_up() -> Iterator[scripted.Provider]:
    with scripted.running(pace=0) as running:
        yield running


@pytest.fixture(scope="module")
def answering(cut_up: scripted.Provider) -> Iterator[Callable[[str], Server]]:
    """Serve the recipe with a model of your choice, each server once."""
    with by_model(APP, cut_up.env) as with_model:
        yield with_model


CLIENTS = ["llm_openai.py", "llm_openai.mjs"]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("model", "code", "out", "err"),
    [
        (
            "newlines",
            0,
            "Milk\nsugar\n\n\rhoney\r\n\u2028\u0085.\nComplete: stop.\n",
            "",
        ),
        (
            "truncated",
            1,
            "Tea is",
            "\nNot complete. The answer broke off. Try again: true.\n",
        ),
        (
            "unauthorized",
            1,
            "",
            '\nNot complete. 503: {"detail":"The provider does not accept the key."}\n',
        ),
    ],
)
def test_a_client_prints_the_answer_and_whether_it_is_complete(
    answering: Callable[[str], Server],
    tmp_path: Path,
    client: str,
    model: str,
    code: int,
    out: str,
    err: str,
) -> None:
    done = clients.run(client, answering(model).url, tmp_path)
    assert (done.returncode, done.stdout) == (code, printed(out))
    assert done.stderr.lower() == err.lower()


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_survives_any_cut(client: str, tmp_path: Path) -> None:
    with saying(HEAD, *(bytes([byte]) for byte in GOOD)) as url:
        done = clients.run(client, url, tmp_path)
    assert (done.returncode, done.stdout) == (0, "Téa 🫖\nComplete: stop.\n")


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_tells_a_lost_connection_from_a_whole_answer(
    client: str, tmp_path: Path
) -> None:
    with saying(HEAD, GOOD.partition(b"event: done")[0]) as url:
        done = clients.run(client, url, tmp_path)
    assert (done.returncode, done.stdout) == (1, "Téa 🫖")
    assert done.stderr == "\nNot complete. The connection was lost.\n"


# Run it and Break it, word by word

PAGE = ROOT / "docs/recipes/llm_openai.md"


def test_break_it_does_what_the_page_says_to_who_does_what_the_page_says(
    tmp_path: Path,
) -> None:
    page = PAGE.read_text("utf-8")
    model, *exports, start, ask_it = commands(page.partition("## The code")[0])
    broken = page.partition('!!! example "Break it"')[2].partition("## In")[0]
    scripted_model, *more, start_again = commands(broken)
    assert [model, scripted_model] == ["cookbook llm", "cookbook llm --scripted"]
    assert start == start_again == f"uvicorn {APP}"
    assert exports[-1] == f"export OPENAI_MODEL={local.MODEL}"
    assert more == ["export OPENAI_MODEL=truncated"]

    with cookbook(scripted_model) as provider:
        env = {}
        for line in (*exports, *more):
            (_, variable) = typed(line, model=provider.port)
            name, _, env[name] = variable.partition("=")
            if name != "OPENAI_MODEL":  # The provider prints the others.
                provider.expect(f"export {variable}")

        def see(cwd: Path) -> str:
            with uvicorn(APP, env=env, cwd=cwd) as recipe:
                command = typed(ask_it, recipe=recipe.port)
                return subprocess.check_output(command, text=True)

        before = see(ROOT)
        old, new = "if done.finish_reason:", "if True:"
        after = see(changed(tmp_path, "llm_openai", old, new))
    assert before.count("event: token") == after.count("event: token") == 2
    assert ("event: failed" in before, "event: done" in before) == (True, False)
    assert ("event: failed" in after, "event: done" in after) == (False, True)


# A real model


@pytest.fixture(scope="module")
def real(model: local.Local) -> Iterator[Server]:
    with uvicorn(APP, env=model.env) as running:
        yield running


@pytest.mark.parametrize("route", ["/answer", "/responses"])
def test_a_real_model_streams_and_says_what_it_used(
    real: Server, model: local.Local, route: str
) -> None:
    text, events = ask(real, f"{route}?prompt=Say+hello.")
    start, *tokens, done = events
    assert json.loads(start.data)["model"] == model.model
    assert text
    assert {token.event for token in tokens} == {"token"}
    assert done.event == "done"
    usage = json.loads(done.data)["usage"]
    assert usage["completion_tokens"] >= len(tokens)
    assert usage["prompt_tokens"] > 0


def test_a_real_model_stops_when_the_client_leaves(
    real: Server, model: local.Local
) -> None:
    before = predicted(model)
    with raw_get(real.port, "/answer?prompt=Write+a+long+story+about+tea.") as answer:
        for _ in range(4):
            answer.chunk()
    assert predicted(model) - before < local.ANSWER / 4


# A provider that somebody else wrote


@pytest.fixture(scope="module")
def other() -> Iterator[Server]:
    if not shutil.which("npm"):
        need("aimock", "install Node 20 or newer, which brings npm")
    lock = (HERE / "aimock/package-lock.json").read_bytes()
    installed = AIMOCK / "package-lock.json"
    if not CLI.exists() or installed.read_bytes() != lock:
        shutil.copytree(HERE / "aimock", AIMOCK, dirs_exist_ok=True)
        command = ["npm", "ci", "--ignore-scripts"]
        done = subprocess.run(command, cwd=AIMOCK, capture_output=True, text=True)
        if done.returncode:
            need("aimock", f"npm ci failed: {done.stderr.strip()[-300:]}")
    port = free_port()
    answers = str(HERE / "aimock/answers.json")
    with serve(["node", str(CLI), "-p", str(port), "-f", answers], port) as running:
        yield running


@pytest.fixture(scope="module")
def elsewhere(other: Server) -> Iterator[Server]:
    env = {"OPENAI_BASE_URL": f"{other.url}/v1", "OPENAI_API_KEY": ""}
    with uvicorn(APP, env=env) as running:
        yield running


def test_any_provider_of_that_protocol_will_do(elsewhere: Server) -> None:
    text, events = ask(elsewhere)
    answers = json.loads((HERE / "aimock/answers.json").read_text("utf-8"))["fixtures"]
    assert text == answers[0]["response"]["content"]
    assert [events[0].event, events[-1].event] == ["start", "done"]
    assert json.loads(events[-1].data)["finish_reason"] == "stop"


def test_what_breaks_off_there_is_failed_here(elsewhere: Server) -> None:
    _, events = ask(elsewhere, "/answer?prompt=Break+off")
    assert events[-1].event == "failed"
    assert "done" not in {event.event for event in events}


def test_what_is_refused_there_is_a_502_here(elsewhere: Server) -> None:
    with raw_get(elsewhere.port, "/answer?prompt=Unknown") as answer:
        assert answer.head.startswith("HTTP/1.1 502 ")
