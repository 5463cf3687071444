"""docs/recipes/llm_gateway.md: every claim of the page, proved against the recipe."""

import gzip
import hmac
import importlib.util
import json
import logging
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import aiohttp
import httpx2
import orjson
import pytest
from fastapi.testclient import TestClient

from cookbook.catalog import ROOT
from cookbook.llm import scripted
from recipes import llm_gateway, llm_openai
from tests.kit import sse
from tests.kit.asgi import Run, drive

PATH = "/v1/chat/completions"
KEY = "sk-canary-4711"
BEARER = {"authorization": f"Bearer {KEY}"}
MESSAGES = [{"role": "user", "content": "Why is tea hot?"}]
BROKE_OFF = b'\ndata: {"error":{"message":"The answer broke off."}}\n\ndata: [DONE]\n\n'
WHOLE = [
    "ok",
    "usage",
    "newlines",
    "framing",
    "hostile-markdown",
    "emoji",
    "huge-token",
    "null-content",
    "thinking",
    "tool-arguments",
    "refusal",
    "crlf",
    "crlf-split",
    "utf8-split",
    "joined-events",
    "slow-body",
]


@pytest.fixture(autouse=True)
def provider(
    provider: scripted.Provider, monkeypatch: pytest.MonkeyPatch
) -> scripted.Provider:
    """Lead the recipe to the scripted provider, with all its models and two keys."""
    names = " ".join(f"{name}={name}" for name in provider.scenarios)
    monkeypatch.setenv("GATEWAY_MODELS", f"{names} small=ok")
    monkeypatch.setenv("GATEWAY_KEYS", f"sk-other {KEY}")
    monkeypatch.setenv("GATEWAY_URL", provider.url)
    return provider


def ask(
    model: str = "ok",
    *,
    stall_at: int | None = None,
    disconnect_at: int | None = None,
    **fields: Any,  # noqa: ANN401 - whatever JSON has
) -> Run:
    """Ask the recipe for a stream, unless `fields` say otherwise."""
    asked = {"model": model, "messages": MESSAGES, "stream": True, **fields}
    return post(
        json.dumps(asked).encode(), stall_at=stall_at, disconnect_at=disconnect_at
    )


def post(
    body: bytes,
    headers: dict[str, str] = BEARER,
    *,
    stall_at: int | None = None,
    disconnect_at: int | None = None,
) -> Run:
    """Send a body."""
    return drive(
        llm_gateway.app,
        PATH,
        method="POST",
        headers={"content-type": "application/json", **headers},
        body=body,
        stall_at=stall_at,
        disconnect_at=disconnect_at,
    )


def direct(provider: scripted.Provider, **fields: object) -> bytes:
    """Ask the provider itself, as if nobody had asked before."""
    provider.reset()
    asked = {"messages": MESSAGES, "stream": True, **fields}
    body = httpx2.post(f"{provider.url}{PATH}", json=asked).content
    provider.reset()
    return body


def told(run: Run) -> dict[str, Any]:
    """Give the error of an answer, which must have OpenAI's form."""
    assert run.headers["content-type"] == "application/json"
    (only,) = json.loads(run.body).items()
    assert only[0] == "error"
    assert set(only[1]) == {"message", "type", "param", "code"}
    return dict(only[1])


# Bytes


@pytest.mark.parametrize("scenario", WHOLE)
def test_the_bytes_are_the_providers(
    provider: scripted.Provider, scenario: str
) -> None:
    usage = {"include_usage": True}
    wanted = direct(provider, model=scenario, stream_options=usage)
    run = ask(scenario, stream_options=usage)
    assert run.body == wanted
    assert run.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert run.journal[-2:] == ["end", "returned"]
    assert run.headers["cache-control"] == "no-cache"
    assert run.headers["x-accel-buffering"] == "no"
    # A chunk of ours never ends in the middle of a line, or of a character.
    assert all(chunk.endswith(b"\n") for chunk in run.chunks)


@pytest.mark.parametrize("scenario", ["ok", "crlf", "joined-events", "framing"])
def test_a_client_that_has_not_asked_for_the_usage_gets_all_but_that_chunk(
    provider: scripted.Provider, scenario: str
) -> None:
    wanted = direct(provider, model=scenario, stream_options={"include_usage": True})
    lines = wanted.splitlines(keepends=True)
    (usage,) = [line for line in lines if b'"choices":[]' in line]
    assert b"total_tokens" in usage
    assert ask(scenario).body == wanted.replace(usage, b"")


@pytest.mark.parametrize("scenario", ["ok", "newlines", "tool-arguments"])
def test_a_whole_answer_is_the_providers_too(
    provider: scripted.Provider, scenario: str
) -> None:
    wanted = direct(provider, model=scenario, stream=False)
    run = ask(scenario, stream=False)
    assert run.body == wanted
    assert run.headers["content-type"] == "application/json"


def test_a_client_sees_the_providers_name_of_the_model(
    provider: scripted.Provider,
) -> None:
    assert b'"model":"ok"' in ask("small").body
    assert provider.requests()[0].model == "ok"


def test_the_first_token_is_out_before_the_second_is_made(
    provider: scripted.Provider,
) -> None:
    provider.go(1)  # The first token may come together with what is before it.
    run = ask("gated", disconnect_at=1)
    assert run.chunks[0].startswith(b"data: ")
    assert provider.wait(1).tokens_made <= 1


def test_who_leaves_or_stops_reading_ends_the_generation(
    provider: scripted.Provider,
) -> None:
    provider.go(2)  # It cannot make the others before the client has left.
    run = ask("gated", stall_at=1, disconnect_at=1)
    assert provider.wait(1).hung_up_after is not None
    assert run.journal[-1] == "returned"
    assert run.error is None


# Errors


@pytest.mark.parametrize(
    ("scenario", "status", "kind", "code"),
    [
        ("unauthorized", 503, "server_error", None),
        ("rate-limited", 429, "invalid_request_error", "rate_limit_exceeded"),
        ("server-error", 502, "server_error", None),
        ("overloaded", 502, "server_error", None),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_a_refusal_has_a_status_and_no_words_of_the_providers(
    provider: scripted.Provider,
    scenario: str,
    status: int,
    kind: str,
    code: str | None,
    stream: bool,
) -> None:
    run = ask(scenario, stream=stream)
    refused = provider.scenarios[scenario].status
    assert run.status == status
    assert told(run) == {
        "message": f"The provider has answered with status {refused}.",
        "type": kind,
        "param": None,
        "code": code,
    }
    assert run.headers.get("retry-after") == ("7" if status == 429 else None)
    assert len(provider.requests()) == 1


CUT = ["truncated", "truncated-at-the-end", "half-event"]


@pytest.mark.parametrize("scenario", CUT)
def test_a_stream_that_is_cut_ends_with_an_error_and_done(scenario: str) -> None:
    run = ask(scenario)
    assert run.status == 200
    assert run.body.endswith(BROKE_OFF)
    assert run.body.count(b"[DONE]") == 1
    assert b'"content":" is"' in run.body
    assert b'"content":" hot' not in run.body or scenario == "truncated-at-the-end"
    for event in sse.parse([run.body]).events[:-1]:
        json.loads(event.data)  # Also what was cut left no half of an event.


@pytest.mark.parametrize(
    "scenario", ["truncated", "truncated-at-the-end", "half-event", "reset"]
)
def test_a_whole_answer_that_is_cut_is_a_502(scenario: str) -> None:
    run = ask(scenario, stream=False)
    assert (run.status, told(run)["message"]) == (502, "The provider did not answer.")


@pytest.mark.parametrize("scenario", ["reset", "overloaded-midstream"])
def test_what_breaks_off_is_a_502_or_ends_with_an_error(scenario: str) -> None:
    run = ask(scenario)  # It depends on whether a piece was out by then.
    if run.status == 502:
        assert told(run)["message"] == "The provider did not answer."
    else:
        assert run.body.endswith(BROKE_OFF)
    assert b"had an error" not in run.body


@pytest.mark.parametrize(
    ("scenario", "status"), [("stall-before-first", 200), ("stall-after-first", 200)]
)
def test_a_provider_that_falls_silent_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
    scenario: str,
    status: int,
) -> None:
    monkeypatch.setattr(llm_gateway, "SILENCE", 2.0)
    run = ask(scenario)
    assert run.status == status
    assert run.body.endswith(BROKE_OFF)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("GET", PATH, 405), ("POST", "/v1/models", 405)],
)
def test_an_unknown_path_or_method_has_openais_form(
    method: str, path: str, status: int
) -> None:
    run = drive(llm_gateway.app, path, method=method, headers=BEARER)
    assert run.status == status
    assert told(run)["type"] == "invalid_request_error"


BODIES: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"{",
    "no object": b"[1]",
    "a number": b"1",
    "no UTF-8": b'{"model": "\xff"}',
    "too deep": b"[" * 100_000,
    "too deep in an object": b'{"model":"ok","a":' + b"[" * 100_000,
}


@pytest.mark.parametrize("what", BODIES)
def test_a_body_that_is_no_object_is_a_400(
    provider: scripted.Provider, what: str
) -> None:
    """Attack: A body that is no object: 400, and the provider is not asked."""
    run = post(BODIES[what])
    assert run.status == 400
    assert told(run)["type"] == "invalid_request_error"
    assert provider.requests() == []


@pytest.mark.parametrize("model", [None, "gpt-unknown", "ok ", 5, ["ok"], "\ud83d"])
def test_a_model_that_is_not_on_the_list_is_a_404(
    provider: scripted.Provider, model: object
) -> None:
    run = post(json.dumps({"model": model, "messages": MESSAGES}).encode())
    assert run.status == 404
    assert told(run) == {
        "message": "There is no such model. /v1/models lists them.",
        "type": "invalid_request_error",
        "param": None,
        "code": "not_found",
    }
    assert provider.requests() == []


def test_a_large_body_is_refused() -> None:
    """Attack: A body that is too large: 413."""
    assert post(b" " * (llm_gateway.SIZE + 1)).status == 413


# Keys


def get(path: str, **headers: str) -> Run:
    """Ask for a path."""
    return drive(llm_gateway.app, path, headers=headers)


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {KEY}x",
        f"Bearer {KEY[:-1]}",
        f"Basic {KEY}",
        KEY,
        "Bearer \xe9",
        f"Bearer sha256:{sha256(KEY.encode()).hexdigest()}",
        "Bearer not-needed",
    ],
)
@pytest.mark.parametrize("path", ["/v1/models", "/usage"])
def test_without_a_known_key_there_is_a_401(authorization: str, path: str) -> None:
    """Attack: A key that is wrong, cut, or the digest of a right one: 401."""
    run = get(path, authorization=authorization)
    assert (run.status, run.headers["www-authenticate"]) == (401, "Bearer")
    assert told(run) == {
        "message": "This key is unknown.",
        "type": "invalid_request_error",
        "param": None,
        "code": "invalid_api_key",
    }


def test_without_a_key_nothing_is_asked(provider: scripted.Provider) -> None:
    run = post(b'{"model": "ok", "messages": []}', {"authorization": "Bearer x"})
    assert run.status == 401
    assert provider.requests() == []


@pytest.mark.parametrize("key", ["sk-other", KEY])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_each_key_opens_the_gateway(
    provider: scripted.Provider, key: str, scheme: str
) -> None:
    run = get("/v1/models", authorization=f"{scheme} {key}")
    listed = json.loads(run.body)
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == [*provider.scenarios, "small"]
    assert listed["data"][0] == {
        "id": "ok",
        "object": "model",
        "created": 0,
        "owned_by": "llm_gateway",
    }


def test_a_key_may_be_kept_as_its_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    digest = sha256(b"sk-hashed").hexdigest()
    monkeypatch.setenv("GATEWAY_KEYS", f"sk-other sha256:{digest.upper()}")
    assert get("/usage", authorization="Bearer sk-hashed").status == 200
    assert get("/usage", authorization=f"Bearer sha256:{digest}").status == 401


def test_a_digest_that_is_none_stops_the_start_without_repeating_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GATEWAY_KEYS", "sha256:sk-canary")
    with pytest.raises(ValueError, match="hexadecimal") as raised:
        list(llm_gateway.read_keys(""))
    assert "sk-canary" not in str(raised.value)


def test_without_keys_of_its_own_the_providers_key_opens_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("GATEWAY_KEYS")
    assert get("/usage", authorization="Bearer not-needed").status == 200
    monkeypatch.delenv("OPENAI_API_KEY")
    assert get("/usage", authorization="Bearer ").status == 401


def test_every_key_is_compared_in_constant_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Attack: Keys are guessed by the time it takes: it takes the same for all."""
    compared: list[bytes] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return hmac.compare_digest(one, other)

    monkeypatch.setattr(llm_gateway, "compare_digest", compare)
    assert get("/usage", authorization="Bearer sk-other").status == 200
    assert compared == [sha256(key.encode()).digest() for key in ("sk-other", KEY)]


def test_no_key_and_no_words_reach_the_log_or_the_client(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Attack: Keys in requests and in errors: none reaches the log or a client."""
    caplog.set_level(logging.DEBUG)
    bodies = [ask(name).body for name in ("ok", "truncated", "reset", "unauthorized")]
    bodies += [post(b"{}", {"authorization": "Bearer sk-wrong"}).body]
    everything = caplog.text.encode() + b"".join(bodies)
    for secret in (KEY, "sk-wrong", "not-needed", "The key is wrong"):
        assert secret.encode() not in everything
    assert "Broke off: <class" in caplog.text


# What is passed on, both ways


def received(connection: socket.socket) -> bytes:
    """Give what comes next; raises ConnectionError if the gateway has hung up."""
    found = connection.recv(65536)
    if not found:
        raise ConnectionError
    return found


@dataclass
class Upstream:
    """A provider that says what a test tells it, byte by byte."""

    port: int = 0
    says: bytes = b""
    heard: list[bytes] = field(default_factory=list)

    def answer(self, connection: socket.socket) -> None:
        """Read one request, answer it and close the connection."""
        with connection:
            heard = b""
            while b"\r\n\r\n" not in heard:
                heard += received(connection)
            head, _, body = heard.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split()[0])
            while len(body) < length:
                body += received(connection)
            self.heard += [head, body]
            connection.sendall(self.says)


@pytest.fixture
def upstream(
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Upstream]:
    """Lead the recipe to a provider of the test's."""
    listener = socket.create_server(("127.0.0.1", 0))
    made = Upstream(listener.getsockname()[1])

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with suppress(ConnectionError):
                made.answer(connection)

    threading.Thread(target=serve, daemon=True).start()
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{made.port}/v1/")
    monkeypatch.setenv("GATEWAY_URL", f"http://127.0.0.1:{made.port}")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-ours")
    monkeypatch.setenv("GATEWAY_KEYS", KEY)
    monkeypatch.setenv("GATEWAY_MODELS", "ok=theirs")
    yield made
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def response(
    body: bytes,
    *fields: str,
    kind: str = "text/event-stream",
    status: str = "200 OK",
) -> bytes:
    """Write a response that ends with its connection."""
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", "Connection: close"]
    return "\r\n".join([*lines, *fields, "", ""]).encode("latin-1") + body


CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"Tea"}}]}\n\n'
DONE = b"data: [DONE]\n\n"
ODD_FIELDS = """{
  "model": "ok", "messages": [{"role": "user", "content": "T\u00e9a \\ud83e\\uded6"}],
  "stream": true, "seed": 123456789012345678901234567890, "temperature": 0.10,
  "user": null, "x": {"model": "inner", "stream": [1.5, -0.0, true]}, "n": 1,
  "stream_options": {"include_usage": false, "include_obfuscation": false}
}""".encode()


def test_only_the_model_and_the_wish_for_the_usage_are_changed(
    upstream: Upstream,
) -> None:
    upstream.says = response(CHUNK + DONE)
    assert post(ODD_FIELDS).body == CHUNK + DONE
    head, body = upstream.heard
    wanted = json.loads(ODD_FIELDS)
    wanted["model"] = "theirs"
    wanted["stream_options"]["include_usage"] = True
    assert json.loads(body) == wanted
    assert head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    assert b"authorization: bearer sk-ours" in head.lower()
    assert b"accept-encoding: identity" in head.lower()
    assert KEY.encode() not in head + body


def test_the_providers_name_of_a_model_may_hold_an_equals_sign(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_MODELS", "ok=theirs?version=2")
    upstream.says = response(CHUNK + DONE)
    assert ask().status == 200
    assert json.loads(upstream.heard[1])["model"] == "theirs?version=2"


@pytest.mark.parametrize("stream", [False, None, "true", 1])
def test_what_is_no_stream_is_not_asked_for_the_usage(
    upstream: Upstream, stream: object
) -> None:
    upstream.says = response(b'{"choices": []}', kind="application/json")
    assert ask(stream=stream).body == b'{"choices": []}'
    assert json.loads(upstream.heard[1]) == {
        "model": "theirs",
        "messages": MESSAGES,
        "stream": stream,
    }


@pytest.mark.parametrize("options", [5, "x", [1]])
def test_options_that_are_no_object_are_for_the_provider_to_refuse(
    upstream: Upstream, options: object
) -> None:
    upstream.says = response(b"{}", kind="application/json", status="400 Bad Request")
    run = ask(stream_options=options)
    assert run.status == 400
    assert json.loads(upstream.heard[1])["stream_options"] == options


def test_of_the_providers_header_fields_none_comes_through(
    upstream: Upstream,
) -> None:
    """Attack: The provider sends header fields: none reaches the client."""
    fields = ["Set-Cookie: a=b", "X-Request-Id: 1", "Server: theirs", "X-Secret: x"]
    upstream.says = response(CHUNK + DONE, *fields)
    run = ask()
    assert set(run.headers.keys()) == {
        "cache-control",
        "x-accel-buffering",
        "content-type",
    }


@pytest.mark.parametrize(
    ("after", "passed"),
    [("7", "7"), ("soon", None), ("\xd9\xa7", None), ("7\xe9", None), ("", None)],
)
def test_retry_after_comes_through_if_it_is_a_number(
    upstream: Upstream, after: str, passed: str | None
) -> None:
    upstream.says = response(b"", f"Retry-After: {after}", status="429 Too Many")
    run = ask()
    assert (run.status, run.headers.get("retry-after")) == (429, passed)


@pytest.mark.parametrize(
    ("status", "ours"),
    [
        *[(400, 400), (413, 400), (422, 400), (429, 429)],
        *[(401, 503), (403, 503), (404, 503)],
        *[(201, 502), (302, 502), (418, 502), (500, 502), (503, 502), (529, 502)],
    ],
)
def test_each_status_of_the_providers_has_one_of_ours(
    upstream: Upstream, status: int, ours: int
) -> None:
    upstream.says = response(CHUNK + DONE, "Location: /x", status=f"{status} x")
    run = ask()
    assert run.status == ours
    assert told(run)["message"] == f"The provider has answered with status {status}."
    assert len(upstream.heard) == 2  # No redirect is followed.


@pytest.mark.parametrize(
    "says",
    [
        response(gzip.compress(CHUNK + DONE), "Content-Encoding: gzip"),
        response(CHUNK + DONE, kind="text/html"),
        response(b"{}", kind="application/json"),
        b"",
        b"nonsense\r\n\r\n",
    ],
)
def test_what_was_not_asked_for_is_a_502(upstream: Upstream, says: bytes) -> None:
    upstream.says = says
    run = ask()
    assert (run.status, told(run)["type"]) == (502, "server_error")


def test_nobody_there_is_a_502(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("GATEWAY_KEYS", KEY)
    run = ask("small")
    assert (run.status, told(run)["message"]) == (502, "The provider did not answer.")


@pytest.mark.parametrize("stream", [True, False])
def test_a_line_or_a_body_without_end_is_given_up(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    """Attack: The provider sends a line or a body without end: it is given up."""
    monkeypatch.setattr(llm_gateway, "SIZE", 100_000)
    kind = "text/event-stream" if stream else "application/json"
    upstream.says = response(CHUNK + b"x" * 200_000, kind=kind)
    run = ask(stream=stream)
    if stream:
        assert run.body == CHUNK + BROKE_OFF
    else:
        assert run.status == 502


def test_many_lines_may_be_longer_than_one(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llm_gateway, "SIZE", 100_000)
    upstream.says = response(CHUNK * 5000 + DONE)
    assert ask().body == CHUNK * 5000 + DONE


@pytest.mark.parametrize(
    "error",
    [
        b'{"error": {"message": "canary"}}',
        b'{"error":"canary"}',
        b'{"error" : 5, "x": "canary"}',
        b'{"choices":[],"error":  ["canary"]}',
    ],
)
def test_an_error_in_the_stream_is_replaced(upstream: Upstream, error: bytes) -> None:
    upstream.says = response(b"data: " + error + b"\n\n" + DONE)
    run = ask()
    assert run.status == 502
    assert b"canary" not in run.body


@pytest.mark.parametrize(
    "word", ['"error": {', '"total_tokens": 7', "data: [DONE]", '"choices":[]', "\n\n"]
)
def test_words_of_the_model_are_never_taken_for_more(
    upstream: Upstream, word: str
) -> None:
    chunk = {"choices": [{"delta": {"content": word}}], "error": None, "usage": None}
    body = b"data: " + json.dumps(chunk).encode() + b"\n\n"
    upstream.says = response(body + DONE)
    run = ask()
    assert run.body == body + DONE
    upstream.says = response(body)
    assert ask().body == body + BROKE_OFF


def test_done_counts_as_the_end_also_without_a_space(upstream: Upstream) -> None:
    upstream.says = response(CHUNK + b"data:[DONE]\n\n")
    assert ask().body == CHUNK + b"data:[DONE]\n\n"


def test_without_other_words_the_provider_is_openai_and_the_model_a_small_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("OPENAI_BASE_URL", "GATEWAY_MODELS"):
        monkeypatch.delenv(name)
    asked: list[Any] = []

    def session(*url: str, **options: object) -> aiohttp.ClientSession:
        asked.append((*url, options))
        return original(*url, **cast(dict[str, Any], options))

    original = aiohttp.ClientSession
    monkeypatch.setattr(aiohttp, "ClientSession", session)
    listed = json.loads(get("/v1/models", **BEARER).body)["data"]
    assert [model["id"] for model in listed] == ["small"]
    url, options = asked[0]
    assert url == "https://api.openai.com/v1/"
    timeout = options["timeout"]
    assert (timeout.total, timeout.sock_connect, timeout.sock_read) == (600, 5, 60)
    assert options["auto_decompress"] is False
    assert options["connector"].limit == 0


# Usage and limits


def test_the_limits_are_those_that_the_page_names() -> None:
    assert (llm_gateway.STREAMS, llm_gateway.TOKENS) == (10, 100_000)
    assert (llm_gateway.SILENCE, llm_gateway.TOTAL) == (60, 600)
    assert llm_gateway.SIZE == 4_000_000


def used(client: TestClient, key: str = KEY) -> dict[str, int]:
    """Ask what a key has used."""
    found = client.get("/usage", headers={"authorization": f"Bearer {key}"})
    return dict(found.json())


@contextmanager
def gateway() -> Iterator[TestClient]:
    """Run the recipe over several requests."""
    with TestClient(llm_gateway.app) as client:
        yield client


def complete(client: TestClient, **fields: object) -> httpx2.Response:
    """Ask for an answer."""
    asked = {"model": "ok", "messages": MESSAGES, "stream": True, **fields}
    found: Any = client.post(PATH, json=asked, headers=BEARER)
    return found  # type: ignore[no-any-return]


@pytest.mark.parametrize("stream", [True, False])
def test_the_usage_is_counted_whoever_has_asked_for_it(stream: bool) -> None:
    with gateway() as client:
        complete(client, model="usage", stream=stream)
        assert used(client) == {"open": 0, "tokens": 2005, "estimated": 0}
        complete(client, model="usage", stream=stream)
        assert used(client) == {"open": 0, "tokens": 4010, "estimated": 0}
        assert used(client, "sk-other") == {"open": 0, "tokens": 0, "estimated": 0}


def test_where_the_usage_never_came_it_is_estimated_and_marked(
    upstream: Upstream,
) -> None:
    upstream.says = response(CHUNK * 3)
    with gateway() as client:
        sent = complete(client).request
        tokens = len(sent.content) // 4 + 3
        assert used(client) == {"open": 0, "tokens": tokens, "estimated": tokens}


@pytest.mark.parametrize("scenario", ["unauthorized", "server-error"])
def test_what_was_refused_costs_nothing(scenario: str) -> None:
    with gateway() as client:
        complete(client, model=scenario)
        assert used(client) == {"open": 0, "tokens": 0, "estimated": 0}


@pytest.mark.parametrize("count", [b"-5", b'"5"', b"5e9", b"null", b"9" * 400])
def test_a_count_that_cannot_be_is_not_believed(
    upstream: Upstream, count: bytes
) -> None:
    """Attack: The provider counts -5 tokens, or 10**400: not believed."""
    usage = b'data: {"choices":[],"usage":{"total_tokens":' + count + b"}}\n\n"
    upstream.says = response(CHUNK + usage + DONE)
    with gateway() as client:
        assert complete(client).status_code == 200
        found = used(client)
        assert 0 < found["tokens"] < 1000
        assert count == b"5e9" or found["estimated"] == found["tokens"]


def test_so_many_streams_a_key_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attack: A key has all its streams and asks for another: 429."""
    monkeypatch.setattr(llm_gateway, "STREAMS", 1)
    account = llm_gateway.Account(digest=b"")
    account.open = 1
    monkeypatch.setattr(llm_gateway, "read_keys", lambda _: [account])
    account.digest = sha256(KEY.encode()).digest()
    run = ask()
    assert (run.status, run.headers["retry-after"]) == (429, "10")
    assert told(run)["message"] == "Too much for this key."
    account.open = 0
    assert ask().status == 200
    assert account.open == 0


def test_a_key_may_be_a_minute_in_debt_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    # Only the recipe's own clock: those of the event loops go on.
    clock = SimpleNamespace(monotonic=lambda: now)
    monkeypatch.setattr(llm_gateway, "time", clock)
    monkeypatch.setattr(llm_gateway, "TOKENS", 4000)  # One answer is half of them.
    with gateway() as client:
        for _ in range(2):
            assert complete(client, model="usage").status_code == 200
        assert complete(client, model="ok").status_code == 429
        now += 0.1  # The debt was 60.15 seconds.
        assert complete(client, model="ok").status_code == 429
        now += 0.1
        assert complete(client, model="ok").status_code == 200
        now += 3600
        for _ in range(2):  # Nothing is saved up.
            assert complete(client, model="usage").status_code == 200
        assert complete(client, model="ok").status_code == 429


def test_places_are_free_again_however_an_answer_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    accounts = [llm_gateway.Account(digest=sha256(KEY.encode()).digest())]
    monkeypatch.setattr(llm_gateway, "read_keys", lambda _: accounts)
    for scenario in ("ok", "truncated", "reset", "unauthorized"):
        ask(scenario)
        assert accounts[0].open == 0
    ask("long", disconnect_at=1)
    assert accounts[0].open == 0
    before = accounts[0].estimated
    # Its end, with the provider's own count, can never have come.
    ask("stall-after-first", stall_at=1, disconnect_at=1)
    assert accounts[0].open == 0
    assert accounts[0].estimated > before


# A page of one's own


def page() -> ModuleType:
    """Import the application that the page shows."""
    path = ROOT / "docs/clients/llm_gateway_page.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    made = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = made
    spec.loader.exec_module(made)
    return made


PAGE = page()
ASK = "/answer?prompt=Why+is+tea+hot"


def events_of(run: Run) -> list[tuple[str, Any]]:
    """Give names and data, without what only the SDK adds and without messages."""
    found = []
    for event in sse.parse([run.body]).events:
        data = json.loads(event.data)
        if usage := data.get("usage"):
            data["usage"] = {
                name: usage[name] for name in usage if isinstance(usage[name], int)
            }
        data.pop("message", None)
        found.append((event.event, data))
    return found


@pytest.mark.parametrize(
    "scenario",
    [
        *["ok", "framing", "null-content", "tool-arguments", "refusal", "crlf-split"],
        *["utf8-split", "joined-events", "truncated", "half-event"],
    ],
)
def test_re_framed_events_are_those_of_llm_openai(
    provider: scripted.Provider, monkeypatch: pytest.MonkeyPatch, scenario: str
) -> None:
    monkeypatch.setenv("OPENAI_MODEL", scenario)
    monkeypatch.setenv("GATEWAY_MODEL", scenario)
    wanted = events_of(drive(llm_openai.app, ASK))
    provider.reset()
    run = drive(PAGE.app, ASK)
    assert events_of(run) == wanted
    assert run.headers["content-type"] == "text/event-stream; charset=utf-8"


def test_re_framed_tokens_are_bytes_like_those_of_llm_openai(
    provider: scripted.Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_MODEL", "newlines")
    monkeypatch.setenv("GATEWAY_MODEL", "newlines")
    wanted = drive(llm_openai.app, ASK).body.partition(b"event: done")[0]
    provider.reset()
    assert drive(PAGE.app, ASK).body.partition(b"event: done")[0] == wanted


@pytest.mark.parametrize(
    ("body", "again"),
    [
        (b"data: [1]\n\n", False),
        (b"data: null\n\n", False),
        (b"data: {\n\n", False),
        (b"data: \xff\n\n", False),
        (b'data: {"id":1,"model":2,"choices":[{"delta":5}]}\n\n', False),
        (b'data: {"id":1,"model":2,"choices":[],"usage":{"x":"canary"}}\n\n', False),
        (b'data: {"error":{"message":"canary"}}\n\n', False),
        (b"x" * 2_000_000, False),
    ],
)
def test_whatever_comes_the_page_ends_with_failed(
    upstream: Upstream, body: bytes, again: bool
) -> None:
    upstream.says = response(CHUNK.replace(b"{", b'{"id":"1","model":"m",', 1) + body)
    run = drive(PAGE.app, ASK)
    assert b"canary" not in run.body
    name, data = events_of(run)[-1]
    assert (name, data) == ("failed", {"type": "provider", "retryable": again})


@pytest.mark.parametrize("scenario", ["unauthorized", "rate-limited", "server-error"])
def test_a_refusal_is_a_502_of_the_pages(
    monkeypatch: pytest.MonkeyPatch, scenario: str
) -> None:
    monkeypatch.setenv("GATEWAY_MODEL", scenario)
    assert drive(PAGE.app, ASK).status == 502


def test_orjson_refuses_what_utf8_cannot_hold() -> None:
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(b'"\\ud83d"')
