"""docs/recipes/llm_chat.md: every claim the page makes, proved against the recipe."""

import asyncio
import hashlib
import json
import logging
import re
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, get_args

import httpx2
import pytest
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from hypothesis import example, given
from hypothesis import strategies as st
from openai import AsyncOpenAI
from openai.resources.chat.completions import AsyncCompletions
from openai.types import ChatModel
from openai.types.chat import ChatCompletionChunk
from openai.types.chat.chat_completion_chunk import Choice
from starlette.types import Message, Receive, Scope, Send

from cookbook.llm import scripted
from recipes import llm_chat
from tests.kit import sse
from tests.kit.asgi import Run, drive, note
from tests.kit.llm import SCENARIOS, said
from tests.kit.servers import ROOT, WAIT, Answer, Server, uvicorn
from tests.kit.untrusted import tries

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


@pytest.fixture
def provider(
    provider: scripted.Provider, monkeypatch: pytest.MonkeyPatch
) -> scripted.Provider:
    """Lead the SDK to the scripted provider, with a key that nobody may see."""
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    return provider


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
def server(running: scripted.Provider) -> Iterator[Server]:
    """Run the recipe for those tests that need real sockets; tokens wait for a gate."""
    env = {**running.env, "OPENAI_MODEL": "gated"}
    with uvicorn("recipes.llm_chat:app", env=env) as made:
        yield made


def ask(
    path: str = "/chat/stream",
    *,
    body: bytes = BODY,
    stall_at: int | None = None,
    disconnect_at: int | None = None,
    cancel_at: int | None = None,
    leave_after: Callable[[], object] | None = None,
) -> Run:
    """Send the question through the driver."""
    return drive(
        llm_chat.app,
        path,
        method="POST",
        headers=JSON,
        body=body,
        stall_at=stall_at,
        disconnect_at=disconnect_at,
        cancel_at=cancel_at,
        leave_after=leave_after,
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
    running: scripted.Provider, server: Server
) -> None:
    running.reset()
    running.go(1)
    answer = raw_post(server)
    assert answer.chunk() == b'event: token\ndata: {"text":"Tea"}\n\n'
    assert running.wait(1, lambda request: request.tokens_made == 1).tokens_made == 1
    answer.close()
    assert running.wait(1).hung_up_after == 1


NAMES = ["newlines", "framing", "emoji", "utf8-split", "huge-token", "refusal"]
NAMES += ["null-content", "crlf", "crlf-split", "joined-events", "slow-body"]


@pytest.mark.usefixtures("provider")
@pytest.mark.parametrize("name", NAMES)
def test_every_token_arrives_unchanged_and_forges_nothing(
    name: str, scenario: Choose
) -> None:
    """Attack: The model writes line ends and SSE fields: it forges no event."""
    scenario(name)
    *tokens, (last, done) = events(ask())
    assert [text["text"] for event, text in tokens if event == "token"] == said(name)
    assert (len(tokens), last) == (len(said(name)), "done")
    assert done["text"] == "".join(said(name))


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
def short_deadlines(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shorten the wait for the tokens, but only if nothing else ends it."""
    calls = getattr(request.node, "callspec", None)
    name = calls.params.get("name", "stall") if calls else "stall"
    if name.startswith("stall"):
        monkeypatch.setattr(llm_chat, "FIRST", 2.0)
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
    ("rate-limited", 429, "The provider is busy. Wait a moment."),
    ("unauthorized", 503, "The provider refuses our key or our model."),
    ("server-error", 502, "The answer broke off."),
    ("overloaded", 502, "The answer broke off."),
]


@pytest.mark.usefixtures("provider")
@pytest.mark.parametrize("path", ["/chat", "/chat/stream"])
@pytest.mark.parametrize(("name", "status", "words"), REFUSALS)
def test_a_refusal_of_the_provider_is_a_status_of_ours(
    name: str, status: int, words: str, path: str, scenario: Choose
) -> None:
    scenario(name)
    run = ask(path)
    assert (run.status, json.loads(run.body)) == (status, {"detail": words})
    assert run.headers.get("retry-after") == ("5" if status == 429 else None)


@pytest.mark.parametrize(
    ("theirs", "ours", "words"),
    [
        (400, 400, "The model refuses this. It may be too long."),
        (401, 503, "The provider refuses our key or our model."),
        (403, 503, "The provider refuses our key or our model."),
        (404, 503, "The provider refuses our key or our model."),
        (409, 502, "The answer broke off."),
        (429, 429, "The provider is busy. Wait a moment."),
        (500, 502, "The answer broke off."),
    ],
)
def test_each_status_of_the_provider_has_one_of_ours(
    theirs: int, ours: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wired(monkeypatch, theirs, b'{"error": {"message": "secret"}}')
    run = ask()
    assert (run.status, json.loads(run.body)) == (ours, {"detail": words})


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

    def __init__(
        self, texts: int, wait: float = 0, begun: threading.Event | None = None
    ) -> None:
        self.texts, self.wait, self.begun = texts, wait, begun or threading.Event()

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
        self.begun.set()
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
        "ready": True,
    }

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
        yield state

    monkeypatch.setattr(llm_chat.app.router, "lifespan_context", lifespan)


def wired(monkeypatch: pytest.MonkeyPatch, status: int, body: bytes) -> None:
    """Let the real SDK read these bytes as the provider's answer."""

    def answer(_: httpx2.Request) -> httpx2.Response:
        kind = {"content-type": "text/event-stream"}
        return httpx2.Response(status, headers=kind, content=body)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
        http = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
        async with AsyncOpenAI(api_key="k", max_retries=0, http_client=http) as client:
            yield {"client": client, "model": "m", "ready": True}

    monkeypatch.setattr(llm_chat.app.router, "lifespan_context", lifespan)


CHUNKS: list[dict[str, Any]] = [
    {"id": "1", "choices": [{"index": 0, "delta": {"content": "Tea"}}]},
    {"id": "1", "choices": [{"index": 0, "delta": {"refusal": "No"}}]},
    {"id": "1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    {"id": "1", "choices": [], "usage": {"completion_tokens": 2}},
]
PLACES: list[list[str | int]] = [
    [],
    ["choices"],
    ["choices", 0],
    ["choices", 0, "delta"],
    ["choices", 0, "delta", "content"],
    ["choices", 0, "delta", "refusal"],
    ["choices", 0, "finish_reason"],
    ["usage"],
    ["usage", "completion_tokens"],
    ["error"],
]
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers()
    | st.sampled_from([10**30, -1, 1e400, "\ud83d", "\ude00", "", "x" * 200])
    | st.text(st.characters(), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["content", "delta", "error", "x"]), inner, max_size=3
        )
    ),
    max_leaves=5,
)


def mutate(chunk: Any, place: list[str | int], new: object) -> object:  # noqa: ANN401
    """Give the chunk with `new` at this place, if it has the place."""
    if not place:
        return new
    step, *rest = place
    if isinstance(chunk, dict) and isinstance(step, str):
        return {**chunk, step: mutate(chunk.get(step), rest, new)}
    if isinstance(chunk, list) and step == 0:
        return [mutate(item, rest, new) for item in chunk]
    return chunk


def frame(chunks: list[Any]) -> bytes:
    """Write the chunks as the provider does."""
    lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    return "".join([*lines, "data: [DONE]\n\n"]).encode()


MUTATION = st.tuples(st.integers(0, len(CHUNKS) - 1), st.sampled_from(PLACES), ANYTHING)
BYTES = st.lists(
    st.sampled_from(
        [
            b"data: ",
            b"event: error",
            b"\n",
            b"\n\n",
            b"{",
            b"[" * 9999,
            b"null",
            b"\xff",
        ]
    ),
    max_size=8,
).map(b"".join)


@pytest.mark.timeout(60)
@tries(100)
@given(mutations=st.lists(MUTATION, min_size=1, max_size=3), noise=st.none() | BYTES)
@example(mutations=[(0, PLACES[4], "\ud83d")], noise=None)
@example(mutations=[(2, PLACES[6], 7)], noise=None)
@example(mutations=[(3, PLACES[8], 10**4000)], noise=None)
@example(mutations=[(0, PLACES[1], None)], noise=None)
@example(mutations=[(0, PLACES[4], "x" * 1_000_001)], noise=None)
@example(mutations=[(0, PLACES[0], None)], noise=b"data: " + b"[" * 9999 + b"\n\n")
def test_whatever_a_provider_sends_ends_in_done_or_failed(
    mutations: list[tuple[int, list[str | int], object]], noise: bytes | None
) -> None:
    chunks: list[Any] = list(CHUNKS)
    for number, place, new in mutations:
        chunks[number] = mutate(chunks[number], place, new)
    body = (noise or b"") + frame(chunks)
    with pytest.MonkeyPatch.context() as patch:
        wired(patch, 200, body)
        stream, whole = ask("/chat/stream"), ask("/chat")
    *tokens, (last, said) = events(stream)
    assert {name for name, _ in tokens} <= {"token"}
    assert stream.journal[-1] == whole.journal[-1] == "returned"
    if last == "done":
        assert (whole.status, json.loads(whole.body)) == (200, said)
        assert "".join(token["text"] for _, token in tokens) == said["text"]
    else:
        assert (last, whole.status) == ("failed", said["status"])
        assert json.loads(whole.body) == {"detail": said["message"]}
        assert whole.status in {502, 504}


class Eager(Stub):
    """A provider whose next token is always there already."""

    async def __anext__(self) -> ChatCompletionChunk:
        choice = {"index": 0, "delta": {"content": "a"}}
        return ChatCompletionChunk.model_construct(
            choices=[Choice.model_validate(choice)], usage=None
        )


def test_the_total_deadline_ends_an_answer_that_never_pauses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(llm_chat, "TOTAL", 1.0)
    stubbed(monkeypatch, lambda: Eager(1))
    run = ask()
    *tokens, last = events(run)
    assert last == ("failed", SLOW)
    assert tokens
    assert "closed" in run.journal


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
    assert after == ["disconnect", "closed", "returned"]
    assert llm_chat.open_streams == []


def test_behind_a_base_http_middleware_streams_are_cancelled_and_polling_is_blind() -> (
    None
):
    app = FastAPI()
    polling = threading.Event()

    @app.middleware("http")
    async def passed_on(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        return await call_next(request)

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def pieces() -> AsyncIterator[str]:
            try:
                yield "x"
                await asyncio.Event().wait()
            finally:
                note("cancelled")

        return StreamingResponse(pieces())

    @app.get("/poll")
    async def poll(request: Request) -> bool:
        found = False
        polling.set()
        for _ in range(100):
            await asyncio.sleep(0.001)
            found = found or await request.is_disconnected()
        note(f"has seen it leave: {found}")
        return found

    assert "cancelled" in drive(app, "/stream", disconnect_at=1).before("returned")
    run = drive(app, "/poll", leave_after=lambda: polling.wait(WAIT))
    assert "has seen it leave: False" in run.journal


def test_it_is_closed_when_the_server_gives_the_request_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stubbed(monkeypatch, lambda: Stub(1000, 0.001))
    run = ask(cancel_at=2)
    assert "closed" in run.before("raised CancelledError")
    assert llm_chat.open_streams == []


def test_a_hundred_clients_that_reset_their_connection_leave_no_place_taken(
    running: scripted.Provider, server: Server
) -> None:
    """Attack: A hundred clients reset their connection: all places are free."""
    running.reset()
    for number in range(1, 101):
        answer = raw_post(server)
        assert answer.head.startswith("HTTP/1.1 200")
        answer.abort()
        assert running.wait(number).hung_up_after == 0
    answer = raw_post(server)
    assert answer.head.startswith("HTTP/1.1 200")
    answer.close()
    assert running.wait(101).hung_up_after == 0


def test_a_client_may_have_three_streams_and_is_told_when_to_come_back(
    running: scripted.Provider, server: Server
) -> None:
    """Attack: A client opens a fourth stream: 429, and the provider is not asked."""
    running.reset()
    opened = [raw_post(server) for _ in range(llm_chat.STREAMS)]
    refused = raw_post(server)
    assert refused.head.startswith("HTTP/1.1 429")
    assert "retry-after: 5" in refused.head.lower()
    assert len(running.requests()) == llm_chat.STREAMS
    for answer in [*opened, refused]:
        answer.close()
    for number in range(1, llm_chat.STREAMS + 1):
        running.wait(number)


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


@pytest.mark.parametrize("path", ["/chat", "/chat/stream"])
def test_a_client_that_leaves_before_the_provider_has_said_a_word_is_noticed(
    path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = threading.Event()

    async def never() -> None:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            note("hung up")

    stubbed(monkeypatch, never)
    run = ask(path, leave_after=lambda: asked.wait(WAIT))
    after = run.journal[run.journal.index("disconnect") :]
    assert after == ["disconnect", "hung up", "returned"]
    assert llm_chat.open_streams == []
    assert caplog.messages == []


def test_without_a_stream_it_is_noticed_in_the_middle_of_the_answer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    begun = threading.Event()
    stub = Stub(1000, 0.001, begun)
    stubbed(monkeypatch, lambda: stub)
    run = ask("/chat", leave_after=lambda: begun.wait(WAIT))
    after = run.journal[run.journal.index("disconnect") :]
    assert after.count("token") <= 1
    assert after[-2:] == ["closed", "returned"]
    assert stub.texts > 0
    assert llm_chat.open_streams == []
    assert caplog.messages == []


def test_without_a_key_it_runs_and_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"):
        monkeypatch.delenv(name, raising=False)
    with TestClient(llm_chat.app) as client:
        health = client.get("/health").json()
        refused = client.post("/chat", json=QUESTION)
    assert health == {"model": llm_chat.MODEL, "ready": False}
    assert llm_chat.MODEL in get_args(ChatModel)
    assert refused.status_code == 503
    sentence = "No model: run `cookbook llm` and type its exports."
    assert refused.json() == {"detail": sentence}


def test_an_address_without_a_key_is_enough(
    provider: scripted.Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert provider.env["OPENAI_BASE_URL"]
    monkeypatch.delenv("OPENAI_API_KEY")
    with TestClient(llm_chat.app) as client:
        assert client.get("/health").json()["ready"] is True
        assert client.post("/chat", json=QUESTION).status_code == 200


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
    {**QUESTION, "max_tokens": 0},
    {**QUESTION, "max_tokens": 1001},
    {**QUESTION, "max_tokens": "many"},
]


@pytest.mark.parametrize("body", INVALID, ids=lambda body: json.dumps(body)[:60])
def test_what_is_not_a_conversation_is_refused_and_the_provider_never_asked(
    body: dict[str, Any], client: TestClient, provider: scripted.Provider
) -> None:
    assert client.post("/chat/stream", json=body).status_code == 422
    assert provider.requests() == []


def test_a_field_that_is_not_asked_for_reaches_no_provider(
    client: TestClient, provider: scripted.Provider
) -> None:
    """Attack: A client names a model of its own: it reaches no provider."""
    extra = {"model": "usage", "stream": False, "max_completion_tokens": 1}
    turn = {"role": "user", "content": "Why?", "name": "y"}
    answer = client.post("/chat", json={"messages": [turn], **extra})
    assert answer.json() == {**WHOLE, "tokens": 8}
    assert provider.requests()[0].model == llm_chat.MODEL


def turn(content: str) -> bytes:
    """Write a body with one message; what UTF-8 cannot hold is escaped."""
    return json.dumps({"messages": [{"role": "user", "content": content}]}).encode()


ODD = [
    (turn("\ud83d"), "string_unicode", ["body", "messages", 0, "content"]),
    (turn("x" * 8001), "string_too_long", ["body", "messages", 0, "content"]),
    (b'{"messages": 5}', "list_type", ["body", "messages"]),
    (BODY[:-1] + b', "max_tokens": NaN}', "finite_number", ["body", "max_tokens"]),
    (BODY[:-1] + b', "max_tokens": -Infinity}', "finite_number", None),
    (b'{"\\ud83d": 1}', "missing", ["body", "messages"]),
    (b"{", "json_invalid", ["body", 1]),
]


@pytest.mark.parametrize(("body", "kind", "where"), ODD, ids=lambda x: str(x)[:40])
def test_a_refused_body_is_told_what_is_wrong_and_where_and_not_repeated(
    body: bytes, kind: str, where: list[object] | None, provider: scripted.Provider
) -> None:
    """Attack: A body that is no conversation: 422, which does not repeat it."""
    run = ask("/chat", body=body)
    found = json.loads(run.body)["detail"]
    assert (run.status, found[0]["type"]) == (422, kind)
    assert where in (None, found[0]["loc"])
    assert all("input" not in wrong and wrong["msg"] for wrong in found)
    assert len(run.body) < 400
    assert provider.requests() == []


def test_eight_thousand_characters_may_be_emoji(client: TestClient) -> None:
    body = {"messages": [{"role": "user", "content": "🫖" * 8000}] * 49 + [*MANY[:1]]}
    assert client.post("/chat", json=body).status_code == 200


@pytest.mark.usefixtures("provider")
def test_a_body_of_more_than_two_megabytes_is_refused() -> None:
    """Attack: A body of more than two megabytes: 413."""
    start = BODY[:-1] + b', "x": "'
    at_most = start + b"x" * (2_000_000 - len(start) - 2) + b'"}'
    assert ask("/chat", body=at_most).status == 200
    run = ask("/chat", body=at_most.replace(b'"}', b'x"}'))
    assert (run.status, run.body) == (413, b"Content Too Large")
    assert run.headers["content-type"] == "text/plain; charset=utf-8"


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
    assert caplog.messages == [f"{run.headers['x-request-id']} EOFError"]


def test_the_log_has_the_place_of_an_error_that_nobody_expected(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wired(monkeypatch, 200, b'data: {"choices": "' + CANARY.encode() + b'"}\n\n')
    run = ask()
    assert events(run) == [("failed", BROKE_OFF)]
    short, long = caplog.messages
    assert short == f"{run.headers['x-request-id']} AttributeError"
    assert re.search(r"llm_chat\.py, line \d+ in answer", long)
    assert CANARY not in caplog.text


@pytest.mark.usefixtures("provider", "short_deadlines")
@pytest.mark.parametrize("name", [*(r[0] for r in REFUSALS), *(f[0] for f in FAULTS)])
@pytest.mark.parametrize("path", ["/chat", "/chat/stream"])
def test_neither_the_key_nor_the_providers_words_get_out(
    name: str,
    path: str,
    scenario: Choose,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Attack: The provider's errors: no word of them, and no key, gets out."""
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
    assert SCENARIOS[name].about not in seen
    assert "Traceback" not in seen


@pytest.mark.usefixtures("short_deadlines")
def test_an_error_whose_text_holds_the_key_is_known_by_its_type_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Attack: An exception holds the key: the log has its type alone."""

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


def again(
    path: Path = Path(llm_chat.__file__), change: tuple[str, str] = ("", "")
) -> ModuleType:
    """Load the recipe once more, with the environment as it is now, and a change."""
    module = ModuleType("again")
    module.__file__ = str(path)
    code = Path(llm_chat.__file__).read_text("utf-8")
    assert not change[0] or code.count(change[0]) == 1
    code = code.replace(*change) if change[0] else code
    exec(compile(code, llm_chat.__file__, "exec"), module.__dict__)  # noqa: S102
    return module


def test_a_page_of_another_origin_must_be_on_the_list(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Attack: A page that is not on the list: its preflight is refused."""
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
    # Which headers that page may read.
    with TestClient(listed.app) as client:
        answer = client.get("/health", headers={"origin": "https://shop.example"})
    shown = answer.headers["access-control-expose-headers"]
    assert shown == "Retry-After, X-Request-ID"


ORIGINS = [
    ("https://shop.example/", False),
    ("https://shop.example,https://other.example", False),
    ("https://shop.example, https://other.example", False),
    ("https://shop.example/chat", False),
    ("https://Shop.example", False),
    ("shop.example", False),
    ("https://shop.example http://localhost:5173", True),
    ("chrome-extension://abcdef", True),
    ("http://[::1]:3000", True),
    ("*", True),
    ("", True),
]


@pytest.mark.parametrize(("value", "fits"), ORIGINS)
def test_an_origin_that_no_browser_sends_is_refused_at_the_start(
    value: str, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHAT_ORIGINS", value)
    module = again()  # Importing it is harmless.
    refused = pytest.raises(ValueError, match=r"like https://shop\.example, with a sp")
    with nullcontext() if fits else refused, TestClient(module.app) as client:
        assert client.get("/health").status_code == 200


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


def test_its_limits_are_those_that_the_page_names() -> None:
    assert (llm_chat.FIRST, llm_chat.IDLE, llm_chat.TOTAL) == (30, 15, 120)
    assert llm_chat.STREAMS == 3
    page = (ROOT / "docs/recipes/llm_chat.md").read_text("utf-8")
    assert (
        "30 seconds to the first token, 15 from one token to the next, and 120" in page
    )


def test_a_system_prompt_goes_where_the_page_says(
    provider: scripted.Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs/recipes/llm_chat.md").read_text("utf-8")
    (line,) = re.findall(r'`(messages=\[\{"role": "system".*)`', page)
    asked: list[Any] = []
    create = AsyncCompletions.create

    async def noted(*args: Any, **fields: Any) -> object:  # noqa: ANN401
        asked.append(fields["messages"])
        return await create(*args, **fields)

    monkeypatch.setattr(AsyncCompletions, "create", noted)
    for module in (
        llm_chat,
        again(change=('messages=asked.model_dump()["messages"],', line)),
    ):
        with TestClient(module.app) as client:
            assert client.post("/chat", json=QUESTION).status_code == 200
    system = {"role": "system", "content": "Talk about tea only."}
    assert asked == [QUESTION["messages"], [system, *QUESTION["messages"]]]
    assert len(provider.requests()) == 2


@pytest.mark.parametrize("limit", [1, 1000])
def test_a_client_may_ask_for_one_token_or_a_thousand(
    limit: int, client: TestClient
) -> None:
    asked = {**QUESTION, "max_tokens": limit}
    assert client.post("/chat", json=asked).status_code == 200


@pytest.mark.usefixtures("provider")
def test_without_a_limit_of_its_own_a_client_gets_five_hundred_tokens(
    scenario: Choose,
) -> None:
    scenario("long")
    assert json.loads(ask("/chat").body)["tokens"] == 500


EDGES = [
    (CHUNKS, "done"),
    ([CHUNKS[0], {"choices": [{"delta": {}, "finish_reason": "x" * 100}]}], "done"),
    ([CHUNKS[0], {"choices": [{"delta": {}, "finish_reason": "x" * 101}]}], "failed"),
    ([*CHUNKS[:3], {"choices": [], "usage": {"completion_tokens": 0}}], "done"),
    ([*CHUNKS[:3], {"choices": [], "usage": {"completion_tokens": -1}}], "failed"),
    ([*CHUNKS[:3], {"choices": [], "usage": {"completion_tokens": 10**6}}], "done"),
    ([*CHUNKS[:3], {"choices": [], "usage": {"completion_tokens": 10**6 + 1}}], None),
    ([{"choices": [{"delta": {"content": "x" * 10**6}}]}, *CHUNKS[2:]], "done"),
    ([{"choices": [{"delta": {"content": "x" * (10**6 + 1)}}]}, *CHUNKS[2:]], None),
    ([*CHUNKS, {"choices": [{"delta": {}, "finish_reason": None}]}], "done"),
    ([CHUNKS[2]], "done"),
]


@pytest.mark.parametrize(("chunks", "last"), EDGES, ids=range(len(EDGES)))
def test_what_is_read_from_a_provider_has_its_limits(
    chunks: list[Any], last: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack: The provider sends too long a token or answer: it ends as failed."""
    wired(monkeypatch, 200, frame(chunks))
    assert events(ask())[-1][0] == (last or "failed")


@pytest.mark.usefixtures("provider")
def test_the_sdk_gets_the_key_and_asks_only_once(
    provider: scripted.Provider, scenario: Choose
) -> None:
    scenario("rate-limited-once")
    with TestClient(llm_chat.app) as client:
        assert client.app_state["client"].api_key == CANARY
        assert client.post("/chat", json=QUESTION).status_code == 429
    assert len(provider.requests()) == 1


def test_a_client_without_an_address_is_answered_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stubbed(monkeypatch, lambda: Stub(2))

    async def over_a_unix_socket(scope: Scope, receive: Receive, send: Send) -> None:
        await llm_chat.app({**scope, "client": None}, receive, send)

    run = drive(over_a_unix_socket, "/chat", method="POST", headers=JSON, body=BODY)
    assert run.status == 200


def test_what_is_done_for_a_client_that_has_left_ends_as_nginx_says_it() -> None:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def wait() -> None:
        async with llm_chat.unless_left(Request({"type": "http"}, receive)):
            await asyncio.Event().wait()

    with pytest.raises(HTTPException) as left:
        asyncio.run(wait())
    assert left.value.status_code == 499


def test_the_file_can_be_copied_alone(tmp_path: Path) -> None:
    module = again(tmp_path / "llm_chat.py")
    with TestClient(module.app) as client:
        assert client.get("/health").status_code == 200


def test_the_page_is_no_part_of_the_api(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert paths.keys() == {"/health", "/chat", "/chat/stream"}


def test_the_two_libraries_are_those_that_were_published(client: TestClient) -> None:
    readme = (llm_chat.PAGE.parent / "vendor/README.md").read_text("utf-8")
    known = dict(re.findall(r"\| `([\w.]+)` \|.*\| `([0-9a-f]{64})` \|", readme))
    assert known.keys() == {"marked.umd.js", "purify.min.js"}
    for name, digest in known.items():
        served = client.get(f"/vendor/{name}").content
        assert hashlib.sha256(served).hexdigest() == digest
