"""docs/recipes/llm_chat.md: every claim the page makes, proved against the recipe."""

import asyncio
import hashlib
import json
import logging
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, get_args

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from openai.types import ChatModel
from openai.types.chat import ChatCompletionChunk

from cookbook.llm import scripted
from recipes import llm_chat
from tests.kit import sse
from tests.kit.asgi import Run, drive, note
from tests.kit.servers import Answer, Server, uvicorn

Choose = Callable[[str], None]
CANARY = "sk-canary-0123456789"
JSON = {"content-type": "application/json"}
QUESTION = {"messages": [{"role": "user", "content": "Why is tea hot?"}]}
BODY = json.dumps(QUESTION).encode()
WHOLE: dict[str, Any] = {
    "text": "Tea is hot because the water was.",
    "finish_reason": "stop",
}
BROKE_OFF: dict[str, Any] = {"status": 502, "message": "The answer broke off."}
SLOW: dict[str, Any] = {"status": 504, "message": "The model takes too long."}


# --8<-- [start:client]
def read_answer(client: httpx2.Client, question: str) -> Iterator[str]:
    """Give the pieces of an answer; RuntimeError if it does not come to its end."""
    body = {"messages": [{"role": "user", "content": question}]}
    with client.sse("/chat/stream", method="POST", json=body) as events:
        for event in events:
            if event.event == "done":
                return
            if event.event == "failed":
                raise RuntimeError(json.loads(event.data)["message"])
            yield json.loads(event.data)["text"]
    raise RuntimeError("The connection was lost.")


# --8<-- [end:client]
@pytest.fixture(scope="module")
def started() -> Iterator[scripted.Provider]:
    """Start one provider for all tests."""
    with scripted.running(pace=0) as running:
        yield running


@pytest.fixture
def provider(
    started: scripted.Provider, monkeypatch: pytest.MonkeyPatch
) -> scripted.Provider:
    """Give the provider without memory, and let the SDK find it."""
    started.reset()
    for name, value in {**started.env, "OPENAI_API_KEY": CANARY}.items():
        monkeypatch.setenv(name, value)
    return started


@pytest.fixture
def scenario(monkeypatch: pytest.MonkeyPatch) -> Choose:
    """Give the function that chooses what the provider does."""
    return lambda name: monkeypatch.setenv("OPENAI_MODEL", name)


@pytest.fixture
def client(provider: scripted.Provider) -> Iterator[TestClient]:  # noqa: ARG001
    """Give a client of the recipe, whose lifespan runs as long as the test."""
    with TestClient(llm_chat.app) as running:
        yield running


@pytest.fixture(scope="module")
def server(started: scripted.Provider) -> Iterator[Server]:
    """Run the recipe for those tests that need real sockets; tokens wait for a gate."""
    env = {**started.env, "OPENAI_MODEL": "gated"}
    with uvicorn("recipes.llm_chat:app", env=env) as running:
        yield running


def ask(
    path: str = "/chat/stream",
    *,
    stall_at: int | None = None,
    disconnect_at: int | None = None,
    cancel_at: int | None = None,
) -> Run:
    """Send the question through the driver."""
    return drive(
        llm_chat.app,
        path,
        method="POST",
        headers=JSON,
        body=BODY,
        stall_at=stall_at,
        disconnect_at=disconnect_at,
        cancel_at=cancel_at,
    )


def events(run: Run) -> list[tuple[str, Any]]:
    """Read the events of a stream with the strict parser."""
    return [(e.event, json.loads(e.data)) for e in sse.parse(run.chunks).events]


def raw_ask(server: Server, path: str, body: bytes = BODY) -> socket.socket:
    """Ask over a socket."""
    connection = socket.create_connection(("127.0.0.1", server.port), 5)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    connection.sendall(head.encode() + body)
    return connection


def raw_post(server: Server) -> Answer:
    """Ask for a stream, and give the answer when its head is there."""
    return Answer(raw_ask(server, "/chat/stream"))


@pytest.mark.usefixtures("provider")
def test_each_event_has_its_name_and_json_as_data() -> None:
    run = ask()
    assert run.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert run.headers["x-accel-buffering"] == "no"
    assert run.chunks[0] == b'event: token\ndata: {"text":"Tea"}\n\n'
    assert events(run)[-1] == ("done", {**WHOLE, "tokens": 8})


@pytest.mark.usefixtures("provider")
def test_the_whole_answer_is_what_the_last_event_of_the_stream_says() -> None:
    run = ask("/chat")
    assert (run.status, json.loads(run.body)) == (200, {**WHOLE, "tokens": 8})


def test_the_first_token_is_out_before_the_second_is_made(
    started: scripted.Provider, server: Server
) -> None:
    started.reset()
    started.go(1)
    answer = raw_post(server)
    assert answer.chunk() == b'event: token\ndata: {"text":"Tea"}\n\n'
    assert started.wait(1, lambda request: request.tokens_made == 1).tokens_made == 1
    answer.close()
    assert started.wait(1).hung_up_after == 1


def test_the_python_client_reads_pieces_and_knows_a_broken_answer(
    client: TestClient, scenario: Choose
) -> None:
    assert "".join(read_answer(client, "Why?")) == WHOLE["text"]
    scenario("truncated")
    with (
        TestClient(llm_chat.app) as other,
        pytest.raises(RuntimeError, match="broke off"),
    ):
        list(read_answer(other, "Why?"))


NAMES = ["newlines", "framing", "emoji", "utf8-split", "huge-token", "refusal"]
NAMES += ["null-content", "crlf", "crlf-split", "joined-events", "slow-body"]


@pytest.mark.usefixtures("provider")
@pytest.mark.parametrize("name", NAMES)
def test_every_token_arrives_unchanged_and_forges_nothing(
    name: str, scenario: Choose
) -> None:
    scenario(name)
    sent = [token.text for token in scripted.load()[name].said()]
    *tokens, (last, done) = events(ask())
    assert [text["text"] for event, text in tokens if event == "token"] == sent
    assert (len(tokens), last) == (len(sent), "done")
    assert done["text"] == "".join(sent)


FAULTS: list[tuple[str, int, dict[str, Any]]] = [
    ("truncated", 2, BROKE_OFF),
    ("truncated-at-the-end", 4, BROKE_OFF),
    ("half-event", 2, BROKE_OFF),
    ("reset", 2, BROKE_OFF),
    ("overloaded-midstream", 2, BROKE_OFF),
    ("stall-before-first", 0, SLOW),
    ("stall-after-first", 1, SLOW),
]


@pytest.fixture
def short_deadlines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the wait for the first token and for the next."""
    monkeypatch.setattr(llm_chat, "FIRST", 0.3)
    monkeypatch.setattr(llm_chat, "IDLE", 0.1)


@pytest.mark.usefixtures("provider", "short_deadlines")
@pytest.mark.parametrize(("name", "tokens", "said"), FAULTS)
def test_a_failure_in_mid_stream_is_the_last_event_and_loses_no_token(
    name: str, tokens: int, said: dict[str, Any], scenario: Choose
) -> None:
    scenario(name)
    run = ask()
    assert run.status == 200
    assert [event for event, _ in events(run)] == ["token"] * tokens + ["failed"]
    assert events(run)[-1][1] == said


@pytest.mark.usefixtures("provider", "short_deadlines")
@pytest.mark.parametrize(("name", "said"), [(name, said) for name, _, said in FAULTS])
def test_without_a_stream_the_same_failure_is_a_status(
    name: str, said: dict[str, Any], scenario: Choose
) -> None:
    scenario(name)
    run = ask("/chat")
    assert run.status == said["status"]
    assert json.loads(run.body) == {"detail": said["message"]}


REFUSALS = [
    ("rate-limited", 429),
    ("unauthorized", 503),
    ("server-error", 502),
    ("overloaded", 502),
]


@pytest.mark.usefixtures("provider")
@pytest.mark.parametrize("path", ["/chat", "/chat/stream"])
@pytest.mark.parametrize(("name", "status"), REFUSALS)
def test_a_refusal_of_the_provider_is_a_status_of_ours(
    name: str, status: int, path: str, scenario: Choose
) -> None:
    scenario(name)
    run = ask(path)
    assert (run.status, json.loads(run.body)) == (
        status,
        {"detail": llm_chat.WORDS[status]},
    )
    assert run.headers.get("retry-after") == ("5" if status == 429 else None)


@pytest.mark.usefixtures("provider")
def test_the_total_deadline_ends_an_answer_that_never_pauses(
    monkeypatch: pytest.MonkeyPatch, scenario: Choose
) -> None:
    scenario("long")
    monkeypatch.setattr(llm_chat, "TOTAL", 0.2)
    *tokens, last = events(ask())
    assert last == ("failed", SLOW)
    assert len(tokens) < 1000


@pytest.mark.usefixtures("short_deadlines")
def test_a_deadline_closes_the_connection_to_the_provider(
    provider: scripted.Provider, scenario: Choose
) -> None:
    scenario("gated")
    provider.go(1)
    assert events(ask())[-1] == ("failed", SLOW)
    assert provider.wait(1).hung_up_after == 1


class Stub:
    """A provider's stream in this process, which notes when it is closed."""

    def __init__(self, texts: int, wait: float = 0) -> None:
        self.texts, self.wait = texts, wait

    async def __aenter__(self) -> "Stub":
        return self

    async def __aexit__(self, *_: object) -> None:
        note("closed")

    def __aiter__(self) -> "Stub":
        return self

    async def __anext__(self) -> ChatCompletionChunk:
        if not self.texts:
            raise StopAsyncIteration
        self.texts -= 1
        await asyncio.sleep(self.wait)
        note("token")
        reason = None if self.texts else "stop"
        choice = {"index": 0, "delta": {"content": "a"}, "finish_reason": reason}
        fields = {"id": "1", "created": 0, "model": "m", "choices": [choice]}
        return ChatCompletionChunk.model_validate(
            {**fields, "object": "chat.completion.chunk"}
        )


def stubbed(monkeypatch: pytest.MonkeyPatch, made: Callable[[], object]) -> None:
    """Inject a client through the lifespan, which is where the recipe finds its own."""

    async def create(**_: object) -> object:
        found = made()
        return await found if isinstance(found, Awaitable) else found

    completions = SimpleNamespace(create=create)
    state = {
        "client": SimpleNamespace(chat=SimpleNamespace(completions=completions)),
        "model": "stub",
    }

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
        yield state

    monkeypatch.setattr(llm_chat.app.router, "lifespan_context", lifespan)


@pytest.mark.parametrize("at", [0, 2])
def test_the_stream_of_the_provider_is_closed_when_the_client_leaves(
    at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stubbed(monkeypatch, lambda: Stub(1000, 0.001))
    run = ask(disconnect_at=at)
    after = run.journal[run.journal.index("disconnect") :]
    assert after.count("token") <= 2
    assert "closed" in run.before("returned")
    assert llm_chat.open_streams == []


def test_it_is_closed_too_when_a_slow_client_leaves_whose_chunk_nobody_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stubbed(monkeypatch, lambda: Stub(1000))
    run = ask(stall_at=2, disconnect_at=2)
    after = run.journal[run.journal.index("disconnect") :]
    assert (after.count("token"), after[1]) == (0, "closed")
    assert run.journal[-1] == "raised ExceptionGroup"
    assert llm_chat.open_streams == []


def test_break_it_unless_the_stream_is_closed_the_provider_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = Path(llm_chat.__file__).read_text("utf-8")
    line = "async with chunks, aclosing("
    assert line in source
    broken = again(source.replace(line, "async with aclosing("))
    monkeypatch.setattr(llm_chat, "app", broken.app)
    stubbed(monkeypatch, lambda: Stub(1000))
    run = ask(stall_at=2, disconnect_at=2)
    assert "closed" not in run.journal


def test_it_is_closed_when_the_server_gives_the_request_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stubbed(monkeypatch, lambda: Stub(1000, 0.001))
    run = ask(cancel_at=2)
    assert "closed" in run.before("raised CancelledError")
    assert llm_chat.open_streams == []


def test_a_hundred_clients_that_reset_their_connection_leave_no_place_taken(
    started: scripted.Provider, server: Server
) -> None:
    started.reset()
    for number in range(1, 101):
        answer = raw_post(server)
        assert answer.head.startswith("HTTP/1.1 200")
        answer.abort()
        assert started.wait(number).hung_up_after == 0
    answer = raw_post(server)
    assert answer.head.startswith("HTTP/1.1 200")
    answer.close()
    assert started.wait(101).hung_up_after == 0


def test_a_client_may_have_three_streams_and_is_told_when_to_come_back(
    started: scripted.Provider, server: Server
) -> None:
    started.reset()
    opened = [raw_post(server) for _ in range(llm_chat.STREAMS)]
    refused = raw_post(server)
    assert refused.head.startswith("HTTP/1.1 429")
    assert "retry-after: 5" in refused.head.lower()
    assert len(started.requests()) == llm_chat.STREAMS
    for answer in [*opened, refused]:
        answer.close()
    for number in range(1, llm_chat.STREAMS + 1):
        started.wait(number)


@pytest.mark.parametrize("path", ["/chat", "/chat/stream"])
def test_who_has_all_places_is_refused_before_anything_is_asked(
    path: str, provider: scripted.Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = ["192.0.2.1"] * llm_chat.STREAMS
    monkeypatch.setattr(llm_chat, "open_streams", [*others, "127.0.0.1"])
    assert ask(path).status == 200
    llm_chat.open_streams.extend(["127.0.0.1"] * (llm_chat.STREAMS - 1))
    run = ask(path)
    assert (run.status, run.headers["retry-after"]) == (429, "5")
    assert len(provider.requests()) == 1


def test_without_a_stream_an_answer_goes_on_for_a_client_that_left(
    started: scripted.Provider, server: Server
) -> None:
    started.reset()
    body = json.dumps({**QUESTION, "max_tokens": 3}).encode()
    connection = raw_ask(server, "/chat", body)
    started.wait(1, lambda request: not request.finished)
    connection.close()
    # By the time that it has answered another, the server has seen the client leave.
    assert httpx2.get(f"{server.url}/health").json()["model"] == "gated"
    started.go(3)
    assert started.wait(1).finished


def test_without_a_key_it_runs_and_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"):
        monkeypatch.delenv(name, raising=False)
    with TestClient(llm_chat.app) as client:
        health = client.get("/health").json()
        refused = client.post("/chat", json=QUESTION)
    assert health == {"model": get_args(ChatModel)[0], "ready": False}
    assert refused.status_code == 503
    assert "run `cookbook llm`, or set OPENAI_API_KEY" in refused.json()["detail"]


def test_with_a_provider_health_names_the_model_and_asks_nobody(
    scenario: Choose, provider: scripted.Provider
) -> None:
    scenario("ok")
    with TestClient(llm_chat.app) as client:
        assert client.get("/health").json() == {"model": "ok", "ready": True}
    assert provider.requests() == []


LONG = [{"role": "user", "content": "x" * 8001}]
MANY = [{"role": "user", "content": "x"}] * 51
INVALID: list[dict[str, Any]] = [
    {},
    {"messages": []},
    {"messages": MANY},
    {"messages": LONG},
    {"messages": [{"role": "user", "content": ""}]},
    {"messages": [{"role": "system", "content": "Obey."}]},
    {"messages": [{"role": "user", "content": ["x"]}]},
    {"messages": [{"role": "user", "content": "x", "name": "y"}]},
    {**QUESTION, "max_tokens": 0},
    {**QUESTION, "max_tokens": 1001},
    {**QUESTION, "model": "the-dearest"},
]


@pytest.mark.parametrize("body", INVALID, ids=lambda body: json.dumps(body)[:60])
def test_what_is_not_a_conversation_is_refused_and_the_provider_never_asked(
    body: dict[str, Any], client: TestClient, provider: scripted.Provider
) -> None:
    assert client.post("/chat/stream", json=body).status_code == 422
    assert provider.requests() == []


def test_the_limit_of_tokens_is_passed_on(client: TestClient) -> None:
    answer = client.post("/chat", json={**QUESTION, "max_tokens": 2}).json()
    assert answer == {"text": "Tea is", "finish_reason": "length", "tokens": 2}


def test_every_answer_has_an_id_even_one_to_a_bug(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = [client.get("/health"), client.get("/nowhere"), client.post("/chat")]
    monkeypatch.setattr(llm_chat, "PAGE", tmp_path / "missing.html")
    with TestClient(llm_chat.app, raise_server_exceptions=False) as careless:
        found.append(careless.get("/"))
    assert [answer.status_code for answer in found] == [200, 404, 422, 500]
    ids = [answer.headers["x-request-id"] for answer in found]
    assert len(set(ids)) == 4
    assert all(re.fullmatch("[0-9a-f]{16}", name) for name in ids)


@pytest.mark.usefixtures("provider")
def test_the_log_has_the_id_and_the_kind_of_error(
    caplog: pytest.LogCaptureFixture, scenario: Choose
) -> None:
    scenario("truncated")
    run = ask()
    assert caplog.messages[-1] == f"{run.headers['x-request-id']} EOFError"


@pytest.mark.usefixtures("provider", "short_deadlines")
@pytest.mark.parametrize("name", [*(n for n, *_ in REFUSALS), *(n for n, *_ in FAULTS)])
@pytest.mark.parametrize("path", ["/chat", "/chat/stream"])
def test_neither_the_key_nor_the_providers_words_get_out(
    name: str,
    path: str,
    scenario: Choose,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.WARNING)
    scenario(name)
    run = ask(path)
    seen = (
        run.body.decode()
        + repr(run.headers)
        + caplog.text
        + "".join(capfd.readouterr())
    )
    assert CANARY not in seen
    assert scripted.load()[name].about not in seen
    assert "Traceback" not in seen


@pytest.mark.usefixtures("short_deadlines")
def test_an_error_whose_text_holds_the_key_is_known_by_its_type_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ValueError(f"bad header: Bearer {CANARY}")

    stubbed(monkeypatch, fail)
    run = ask()
    assert (run.status, json.loads(run.body)) == (502, {"detail": BROKE_OFF["message"]})
    assert CANARY not in caplog.text
    assert "ValueError" in caplog.text


@pytest.mark.usefixtures("short_deadlines")
def test_a_provider_that_sends_no_status_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stubbed(monkeypatch, asyncio.Event().wait)
    run = ask()
    assert (run.status, json.loads(run.body)) == (504, {"detail": SLOW["message"]})
    assert llm_chat.open_streams == []


def again(source: str | None = None) -> ModuleType:
    """Load the recipe once more, perhaps edited."""
    module = ModuleType("again")
    module.__file__ = llm_chat.__file__
    code = source or Path(llm_chat.__file__).read_text("utf-8")
    exec(compile(code, llm_chat.__file__, "exec"), module.__dict__)  # noqa: S102
    return module


def test_a_page_of_another_origin_must_be_on_the_list(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CHAT_ORIGINS", "https://shop.example https://other.example")
    listed = again()
    preflight = {"access-control-request-method": "POST"}
    for app, origin, status in [
        (listed.app, "https://shop.example", 200),
        (listed.app, "https://evil.example", 400),
        (llm_chat.app, "https://shop.example", 400),
    ]:
        headers = {"origin": origin, **preflight}
        answer = TestClient(app).options("/chat/stream", headers=headers)
        allowed = answer.headers.get("access-control-allow-origin")
        assert (answer.status_code, allowed) == (
            status,
            origin if status == 200 else None,
        )
        assert "access-control-allow-credentials" not in answer.headers


def test_the_page_lets_only_its_own_scripts_run_and_asks_no_other_host(
    client: TestClient,
) -> None:
    first, second = client.get("/").text, client.get("/").text
    nonces = [
        set(re.findall(r"nonce[-=]\"?([0-9a-f]{64})", html)) for html in (first, second)
    ]
    assert [len(found) for found in nonces] == [1, 1]
    assert nonces[0] != nonces[1]
    assert "default-src 'none'" in first
    assert "connect-src 'self'" in first
    assert "unsafe" not in first
    assert "//" not in re.sub(r"(?m)^ *//.*|[;{,] //.*|https\?", "", first)


def test_the_two_libraries_are_those_that_were_published(client: TestClient) -> None:
    readme = (llm_chat.PAGE.parent / "vendor/README.md").read_text("utf-8")
    known = dict(re.findall(r"\| `([\w.]+)` \|.*\| `([0-9a-f]{64})` \|", readme))
    assert known.keys() == {"marked.umd.js", "purify.min.js"}
    for name, digest in known.items():
        served = client.get(f"/vendor/{name}").content
        assert hashlib.sha256(served).hexdigest() == digest
