"""docs/recipes/llm_chat.md: its claims about real servers, clients and the log."""

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest

from cookbook.llm import local, scripted
from tests.kit import clients
from tests.kit.changed import changed
from tests.kit.servers import ROOT, WAIT, Answer, Server, uvicorn

pytestmark = pytest.mark.timeout(60)

APP = "recipes.llm_chat:app"
CLIENTS = ROOT / "docs/clients"
BODY = json.dumps({"messages": [{"role": "user", "content": "Why is tea hot?"}]})
STALL = CLIENTS / "llm_chat_stalls.toml"


@pytest.fixture(scope="module")
def gated(provider: scripted.Provider) -> Iterator[Server]:
    """Run the recipe; each token waits for the test to let it through."""
    env = {**provider.env, "OPENAI_MODEL": "gated"}
    with uvicorn(APP, env=env) as running:
        yield running


def send(port: int, body: str, *fields: str, path: str = "/chat/stream") -> Answer:
    """Post over a socket of its own, and read the head of the answer."""
    return Answer(sent(port, body, *fields, path=path))


def sent(
    port: int, body: str, *fields: str, path: str = "/chat/stream"
) -> socket.socket:
    """Post over a socket of its own."""
    connection = socket.create_connection(("127.0.0.1", port), 5)
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *fields,
    ]
    connection.sendall("\r\n".join([*lines, "", body]).encode())
    return connection


def log_of(server: Server) -> str:
    """Give the log, without the lines that tell which requests were answered."""
    # By the time that it has answered, the server has dealt with all before.
    assert httpx2.get(f"{server.url}/health").status_code == 200
    lines = server.output().splitlines()
    return "\n".join(line for line in lines if not line.startswith("INFO: "))


# Clients


def test_the_python_client_prints_the_answer_and_how_it_ended(
    provider: scripted.Provider, tmp_path: Path
) -> None:
    with uvicorn(APP, env={**provider.env, "OPENAI_MODEL": "ok"}) as server:
        done = clients.run("llm_chat.py", server.url, tmp_path)
        assert done.stdout == "Tea is hot because the water was.\nstop, 8 tokens\n"
        done = clients.run("llm_chat.mjs", server.url, tmp_path)
        assert done.stdout == "Tea is hot because the water was.\nstop, 8 tokens\n"


@pytest.mark.parametrize(
    ("scenario", "printed", "said"),
    [
        ("truncated", "Tea is", "502: The answer broke off."),
        ("unauthorized", "", "The provider refuses our key or our model."),
    ],
)
def test_a_client_says_why_an_answer_is_not_whole(
    scenario: str,
    printed: str,
    said: str,
    provider: scripted.Provider,
    tmp_path: Path,
) -> None:
    with uvicorn(APP, env={**provider.env, "OPENAI_MODEL": scenario}) as server:
        for client in ("llm_chat.py", "llm_chat.mjs"):
            done = clients.run(client, server.url, tmp_path)
            assert done.returncode == 1
            assert done.stdout == printed
            assert said in done.stderr


# A client that leaves


def test_who_leaves_before_the_head_frees_the_place_and_the_provider() -> None:
    with ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        silent.settimeout(WAIT)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        env = {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "any"}
        server = stack.enter_context(uvicorn(APP, env=env))
        for path in ["/chat", "/chat/stream"] * 2:  # One more than there are places.
            client = sent(server.port, BODY, path=path)
            call, _ = silent.accept()
            call.settimeout(WAIT)
            assert call.recv(65536).startswith(b"POST /v1/chat/completions")
            client.close()
            while call.recv(65536):
                pass  # Without a hang-up this would wait, and the test fail.
            call.close()
        assert log_of(server) == ""


def test_who_leaves_a_whole_answer_hangs_up_after_the_token_that_is_made(
    provider: scripted.Provider, gated: Server
) -> None:
    provider.reset()
    client = sent(gated.port, BODY, path="/chat")
    provider.go(2)
    provider.wait(1, lambda request: request.tokens_made == 2)
    client.close()
    assert provider.wait(1).hung_up_after == 2


def test_a_client_that_leaves_in_mid_stream_is_worth_no_line_in_the_log(
    provider: scripted.Provider, gated: Server
) -> None:
    provider.reset()
    for number, leave in enumerate([Answer.close, Answer.abort], 1):
        answer = send(gated.port, BODY)
        leave(answer)
        assert provider.wait(number).hung_up_after == 0
    assert log_of(gated) == ""


def stall(server: Server, provider: scripted.Provider) -> str:
    """Run the client that stalls and leaves, and give what it prints."""
    source = (CLIENTS / "llm_chat_stalls.py").read_text("utf-8")
    source = source.replace("http://127.0.0.1:8000", server.url)
    source = source.replace("http://127.0.0.1:8001", provider.url)
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


STOPPED = "The provider has seen it leave and has stopped."
WAITS = "The provider still waits for this client."


def test_a_client_that_stalls_and_leaves_is_noticed_and_worth_no_line_in_the_log() -> (
    None
):
    with (
        scripted.running(STALL, pace=0) as endless,
        uvicorn(APP, env=endless.env) as server,
    ):
        assert stall(server, endless) == STOPPED
        assert log_of(server) == ""


OLD = "async with chunks, aclosing(answer(chunks, asked_at)) as events:"
NEW = "async with aclosing(answer(chunks, asked_at)) as events:"


def test_break_it_unless_the_stream_is_closed_the_provider_goes_on(
    tmp_path: Path,
) -> None:
    page = (ROOT / "docs/recipes/llm_chat.md").read_text("utf-8")
    assert STOPPED in page
    assert WAITS in page
    folder = changed(tmp_path, "llm_chat", OLD, NEW)
    with (
        scripted.running(STALL, pace=0) as endless,
        uvicorn(APP, cwd=folder, env=endless.env) as server,
    ):
        assert stall(server, endless) == WAITS


def test_without_the_except_uvicorn_logs_sixty_lines(tmp_path: Path) -> None:
    source = (ROOT / "recipes/llm_chat.py").read_text("utf-8")
    assert source.count("except* BrokenResourceError:") == 1
    changed_source = source.replace("except* BrokenResourceError", "except* KeyError")
    (tmp_path / "chat.py").write_text(changed_source, "utf-8")
    with (
        scripted.running(STALL, pace=0) as endless,
        uvicorn("chat:app", cwd=tmp_path, env=endless.env) as server,
    ):
        assert stall(server, endless) == STOPPED
        log = log_of(server)
    assert "Exception in ASGI application" in log
    assert "BrokenResourceError" in log
    assert 50 < log.count("\n") < 120


# Limits


def test_fifty_megabytes_are_refused_and_hold_nobody_up(gated: Server) -> None:
    """Attack: A body announces fifty megabytes: 413 at once, and others are served."""
    with socket.create_connection(("127.0.0.1", gated.port), 5) as connection:
        head = (
            "POST /chat/stream HTTP/1.1\r\nHost: a\r\nContent-Type: application/json"
            f"\r\nContent-Length: {50_000_000}\r\n\r\n"
        )
        connection.sendall(head.encode() + b"x" * 100_000)
        # Refused by its head alone: the rest need not even be sent.
        answer = Answer(connection)
        assert answer.head.startswith("HTTP/1.1 413")
        answer.close()
    assert httpx2.get(f"{gated.url}/health", timeout=5).status_code == 200


def test_a_body_that_says_no_length_is_cut_off_at_the_limit(gated: Server) -> None:
    """Attack: A chunked body never ends: 413 at the limit."""
    with socket.create_connection(("127.0.0.1", gated.port), 5) as connection:
        head = (
            "POST /chat/stream HTTP/1.1\r\nHost: a\r\nContent-Type: application/json"
            "\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        connection.sendall(head.encode())
        for _ in range(3):
            connection.sendall(b"f4240\r\n" + b"x" * 1_000_000 + b"\r\n")
        assert Answer(connection).head.startswith("HTTP/1.1 413")


@pytest.mark.parametrize(
    ("options", "status"), [([], "200"), (["--no-proxy-headers"], "429")]
)
def test_on_one_machine_a_header_walks_around_the_limit_unless_uvicorn_ignores_it(
    options: list[str], status: str, provider: scripted.Provider
) -> None:
    """Attack: X-Forwarded-For walks around the limit: `--no-proxy-headers`."""
    provider.reset()
    env = {**provider.env, "OPENAI_MODEL": "gated"}
    with uvicorn(APP, *options, env=env) as server, ExitStack() as stack:
        for _ in range(3):
            opened = send(server.port, BODY)
            stack.callback(opened.close)
            assert opened.head.startswith("HTTP/1.1 200")
        refused = send(server.port, BODY)
        stack.callback(refused.close)
        assert refused.head.startswith("HTTP/1.1 429")
        other = send(server.port, BODY, "X-Forwarded-For: 192.0.2.7")
        stack.callback(other.close)
        assert other.head.startswith(f"HTTP/1.1 {status}")


def test_a_wrong_origin_ends_the_start_with_what_to_write(
    provider: scripted.Provider,
) -> None:
    env = {**provider.env, "CHAT_ORIGINS": "https://a.example,https://b.example"}
    with pytest.raises(AssertionError) as ended, uvicorn(APP, env=env):
        pass
    assert "not origins like https://shop.example, with a space" in str(ended.value)
    assert "'https://a.example,https://b.example'" in str(ended.value)


# The page of the chat and a small model


@pytest.mark.skipif(bool(local.available()), reason=local.available() or "")
def test_what_the_page_sends_along_fits_a_small_model() -> None:
    page = (ROOT / "recipes/llm_chat.html").read_text("utf-8")
    found = re.search(r"const SIZE = ([\d_]+);", page)
    assert found
    size = int(found[1])
    source = (ROOT / "docs/recipes/llm_chat.md").read_text("utf-8")
    english = re.sub(r"\W+", " ", source)
    assert len(english) >= size
    with local.running() as model:
        asked = {"content": english[:size]}
        tokens = httpx2.post(f"{model.url}/tokenize", json=asked, timeout=30).json()
    # Beside them the model needs room for fifty turns and for the answer.
    assert len(tokens["tokens"]) + 50 * 5 + 500 < local.CONTEXT
