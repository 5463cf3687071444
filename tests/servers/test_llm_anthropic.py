"""docs/recipes/llm_anthropic.md: its claims about real servers and other providers."""

import json
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cookbook.llm import local, scripted
from tests.kit import clients, servers, sse, tokens
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
    raw_get,
    uvicorn,
)
from tests.kit.typed import commands, cookbook, typed

pytestmark = pytest.mark.timeout(60)

APP = "recipes.llm_anthropic:app"
KEY = "sk-canary-4711"


# The scripted provider


@pytest.fixture(scope="module")
def provider() -> Iterator[scripted.Provider]:
    with scripted.running() as running:
        yield running


@pytest.fixture(scope="module")
def server(provider: scripted.Provider) -> Iterator[Server]:
    env = {**provider.env, "ANTHROPIC_API_KEY": KEY, "ANTHROPIC_MODEL": "gated"}
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


@pytest.mark.parametrize("leave", [Answer.close, Answer.abort])
def test_the_provider_stops_when_the_client_leaves(
    server: Server, provider: scripted.Provider, leave: Callable[[Answer], None]
) -> None:
    provider.reset()
    with raw_get(server.port, ASK) as answer:
        provider.go(2)
        assert [event(answer)[0] for _ in range(3)] == ["start", "token", "token"]
        leave(answer)
        # It could make a token only after another `go`: the close came before any.
        assert provider.wait(1).hung_up_after == 2


def test_a_hundred_clients_that_vanish_leave_no_stream_behind(
    server: Server, provider: scripted.Provider
) -> None:
    provider.reset()
    log = len(server.output())
    for number in range(1, 101):
        with raw_get(server.port, ASK) as answer:
            provider.go(1)
            assert event(answer)[0] == "start"
            provider.wait(number, until=lambda request: request.tokens_made > 0)
            answer.abort()
    for number in range(1, 101):
        assert provider.wait(number).hung_up_after is not None
    assert "Traceback" not in server.output()[log:]


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
        env = {**silent.env, "ANTHROPIC_MODEL": "silent"}
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
    with by_model(APP, cut_up.env, "ANTHROPIC_MODEL") as with_model:
        yield with_model


CLIENTS = ["llm_anthropic.py", "llm_anthropic.mjs"]
SIBLINGS = ["llm_openai.py", "llm_openai.mjs"]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_shows_thoughts_apart_from_the_answer(
    answering: Callable[[str], Server], tmp_path: Path, client: str
) -> None:
    done = clients.run(client, answering("thinking").url, tmp_path)
    assert (done.returncode, done.stdout) == (0, "It is hot.\nComplete: stop.\n")
    assert done.stderr == "The water boils; so…"


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_shows_the_tools_with_all_their_arguments(
    answering: Callable[[str], Server], tmp_path: Path, client: str
) -> None:
    done = clients.run(client, answering("tool-arguments").url, tmp_path)
    found = re.findall(r"^It asks for (\w+): (.*)$", done.stdout, re.MULTILINE)
    assert [(name, json.loads(arguments)) for name, arguments in found] == [
        ("get_order", {"order_id": 42, "note": 'a "b" c'}),
        ("get_weather", {"city": "Kyōto"}),
    ]
    assert done.stdout.startswith("Looking it up.\n")
    assert done.stdout.endswith("\nComplete: tool_calls.\n")


@pytest.mark.parametrize("client", CLIENTS + SIBLINGS)
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

PAGE = ROOT / "docs/recipes/llm_anthropic.md"


def test_the_page_shows_what_its_reader_sees(tmp_path: Path) -> None:
    page = PAGE.read_text("utf-8")
    model, *exports, start, ask_it = commands(page.partition("## The code")[0])
    think = page.partition("## See it think")[2].partition("## What the")[0]
    scripted_model, tools, start_again = commands(think)
    broken = page.partition('!!! example "Break it"')[2].partition("## In")[0]
    overload, start_once_more = commands(broken)
    assert [model, scripted_model] == ["cookbook llm", "cookbook llm --scripted"]
    assert {start, start_again, start_once_more} == {f"uvicorn {APP}"}
    assert exports[-1] == f"export ANTHROPIC_MODEL={local.MODEL}"

    with cookbook(scripted_model) as provider:
        env = {}

        def export(line: str) -> None:
            (_, variable) = typed(line, model=provider.port)
            name, _, env[name] = variable.partition("=")
            if name != "ANTHROPIC_MODEL":  # The provider prints the others.
                provider.expect(f"export {variable}")

        def see(cwd: Path) -> str:
            with uvicorn(APP, env=env, cwd=cwd) as recipe:
                command = typed(ask_it, recipe=recipe.port)
                return subprocess.check_output(command, text=True)

        for line in (*exports, tools):
            export(line)
        kept = (ROOT / "docs/learn/tokens_on_the_wire.txt").read_text("utf-8")
        assert f"--8<-- [start:tool]\n{see(ROOT)}--8<-- [end:tool]\n" in kept
        export("export ANTHROPIC_MODEL=thinking")
        thinking = see(ROOT)
        assert thinking.count("event: thinking") == 6
        assert thinking.count("event: token") == 4
        export(overload)
        before = see(ROOT)
        old, new = re.findall(r'`("\w+", None\) == [^`]+)`', broken)
        after = see(changed(tmp_path, "llm_anthropic", old, new))
    assert before.count("event: token") == after.count("event: token") == 2
    assert ('"type":"overloaded"' in before, '"type":"provider"' in before) == (1, 0)
    assert ('"type":"overloaded"' in after, '"type":"provider"' in after) == (0, 1)


# What the formats send


def test_the_tables_are_what_the_provider_sends_and_the_sdks_do() -> None:
    kept = tokens.TABLE.read_text("utf-8")
    assert tokens.text() == kept, "run python -m tests.kit.tokens"


def test_every_rule_of_the_table_has_found_an_event() -> None:
    kept = tokens.TABLE.read_text("utf-8").partition("[end:answer]")[0]
    for rules, _ in tokens.FORMATS.values():
        for rule in rules:
            name = rule.kind or rule.field
            assert name.removeprefix("response.").removeprefix("choices[0].") in kept


def test_an_event_that_no_rule_knows_stops_the_table() -> None:
    news = sse.Event("weather", '{"type":"weather"}', "")
    with pytest.raises(ValueError, match="no rule knows"):
        list(tokens.said(news, tokens.MESSAGES))


# A real model


@pytest.fixture(scope="module")
def real(model: local.Local) -> Iterator[Server]:
    with uvicorn(APP, env=model.env) as running:
        yield running


@pytest.mark.timeout(180)  # A core may be busy, and an answer has hundreds of tokens.
def test_a_real_model_streams_and_says_what_it_used(
    real: Server, model: local.Local
) -> None:
    text, events = ask(real, "/answer?prompt=Why+is+tea+hot")
    start, *pieces, done = events
    assert json.loads(start.data)["model"] == model.model
    assert text
    assert {piece.event for piece in pieces} == {"token"}
    assert done.event == "done"
    usage = json.loads(done.data)["usage"]
    assert usage["completion_tokens"] >= len(pieces)
    assert usage["prompt_tokens"] > 0


def test_a_real_model_that_begins_with_emoji_is_no_failure(real: Server) -> None:
    # It leaves out its first event if its first token is a part of a character.
    path = "/answer?prompt=Answer+with+emoji+only:+%F0%9F%98%89"
    with raw_get(real.port, path) as answer:
        names = [event(answer)[0] for _ in range(3)]
    assert set(names) <= {"start", "token", "done"}


def test_a_real_model_stops_when_the_client_leaves(
    real: Server, model: local.Local
) -> None:
    before = predicted(model)
    with raw_get(real.port, "/answer?prompt=Write+a+long+story+about+tea.") as answer:
        for _ in range(4):
            answer.chunk()
    assert predicted(model) - before < local.ANSWER / 4
