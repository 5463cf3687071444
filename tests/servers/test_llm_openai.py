"""docs/recipes/llm_openai.md: its claims about real servers and other providers."""

import json
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from cookbook.llm import local, scripted
from tests.kit import servers, sse
from tests.kit.servers import Answer, Server, free_port, need, raw_get, serve, uvicorn

pytestmark = pytest.mark.timeout(60)

APP = "recipes.llm_openai:app"
ASK = "/answer?prompt=Why+is+tea+hot"
KEY = "sk-canary-4711"
HERE = Path(__file__).parent
AIMOCK = servers.ROOT / ".cache/aimock"
CLI = AIMOCK / "node_modules/@copilotkit/aimock/dist/cli.js"


def event(answer: Answer) -> tuple[str, dict[str, object]]:
    """Read one chunk, which must be one event."""
    (found,) = sse.parse([answer.chunk()]).events
    return found.event, json.loads(found.data)


def ask(server: Server, path: str = ASK) -> tuple[str, list[sse.Event]]:
    """Ask for a whole answer: its text and its events."""
    with raw_get(server.port, path) as answer:
        events = sse.parse([answer.rest()]).events
    tokens = [json.loads(e.data)["text"] for e in events if e.event == "token"]
    return "".join(tokens), events


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


def test_until_the_provider_answers_nobody_notices_that_the_client_has_left() -> None:
    with socket.create_server((servers.HOST, 0)) as provider:
        port = provider.getsockname()[1]
        env = {"OPENAI_BASE_URL": f"http://{servers.HOST}:{port}/v1"}
        with uvicorn(APP, env=env) as server:
            address = (servers.HOST, server.port)
            with socket.create_connection(address, servers.WAIT) as client:
                client.sendall(f"GET {ASK} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
                connection, _ = provider.accept()
            with connection:
                while not connection.recv(65536).endswith(b"}"):
                    pass  # The body of the question is a JSON object.
                # By the time this is answered the server has seen the other leave.
                with raw_get(server.port, "/openapi.json") as answer:
                    assert answer.head.startswith("HTTP/1.1 200 ")
                connection.setblocking(False)
                with pytest.raises(BlockingIOError):
                    connection.recv(1)
                connection.settimeout(servers.WAIT)
                kind = b"Content-Type: text/event-stream\r\n"
                connection.sendall(b"HTTP/1.1 200 OK\r\n" + kind + b"\r\n")
                # The head makes it send, and that it cannot: now it hangs up.
                assert connection.recv(65536) == b""


# A real model


@pytest.fixture(scope="module")
def model() -> Iterator[local.Local]:
    if reason := local.available():
        need("The local model", reason)
    with local.running() as running:
        yield running


@pytest.fixture(scope="module")
def real(model: local.Local) -> Iterator[Server]:
    with uvicorn(APP, env=model.env) as running:
        yield running


def predicted(model: local.Local) -> int:
    """Wait until nobody is answered; tell how many tokens were made in all."""
    with httpx2.Client(base_url=model.url) as client:
        while any(slot["is_processing"] for slot in client.get("/slots").json()):
            time.sleep(servers.POLL)
        metrics = client.get("/metrics").text
    return int(re.findall(r"^llamacpp:tokens_predicted_total (\d+)", metrics, re.M)[0])


def test_a_real_model_streams_and_says_what_it_used(
    real: Server, model: local.Local
) -> None:
    text, events = ask(real, "/answer?prompt=Say+hello.")
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
