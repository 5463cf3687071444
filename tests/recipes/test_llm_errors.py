"""docs/recipes/llm_errors.md: every claim the page makes, proved against the recipe."""

import asyncio
import inspect
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any, Literal

import anthropic
import httpx2
import openai
import pytest
import stamina
from anthropic.types import Model
from fastapi import HTTPException
from fastapi.testclient import TestClient
from hypothesis import example, given
from hypothesis import strategies as st
from openai.types import ChatModel

from cookbook import catalog
from cookbook.llm import scripted
from cookbook.llm.formats import FORMATS
from cookbook.llm.formats.answer import Answer, Token, frame
from recipes import llm_errors
from recipes.llm_errors import Done, Failed
from tests.kit.asgi import Run, drive
from tests.kit.llm import events, said, texts
from tests.kit.llm_errors import ASK, asked, environment, told
from tests.kit.untrusted import CANARY, VALUES, paths, replaced, tries

KEY = "sk-canary-4711"
SDKS: list[Literal["openai", "anthropic"]] = ["openai", "anthropic"]
each_sdk = pytest.mark.parametrize("sdk", SDKS)
FAILURES = [value for value in vars(llm_errors).values() if isinstance(value, Failed)]


@pytest.fixture
def play(provider: scripted.Provider) -> Callable[..., Run]:
    """Ask the recipe while the providers play these scenarios."""

    def ask(openai: str = "", anthropic: str = "", **options: Any) -> Run:  # noqa: ANN401 - passed on
        return asked(
            environment(provider, openai=openai, anthropic=anthropic), **options
        )

    return ask


def failed_with(run: Run) -> Failed:
    """Give the failure that a client is told, as a status or as the last event."""
    if run.status != 200:
        return Failed(**json.loads(run.body)["detail"])
    *before, last = events(run)
    assert last.event == "failed"
    assert not {"done", "failed"} & {event.event for event in before}
    return Failed(**json.loads(last.data))


# On the wire


@each_sdk
def test_these_are_the_bytes_of_an_answer(play: Callable[..., Run], sdk: str) -> None:
    run = play(**{sdk: "null-content"})
    reason = {"openai": b"stop", "anthropic": b"end_turn"}[sdk]
    start = b'{"provider": "%s", "model": "null-content"}' % sdk.encode()
    assert run.chunks[0].replace(b": ", b":") == (
        b"event: start\ndata: %s\n\n" % start
    ).replace(b": ", b":")
    assert run.chunks[1:] == [
        *(
            b'event: token\ndata: {"text":"%s"}\n\n' % t
            for t in (b"Tea", b" is", b" hot", b".")
        ),
        b'event: done\ndata: {"finish_reason":"%s"}\n\n' % reason,
    ]


def test_it_is_an_event_stream_that_a_proxy_must_not_hold(
    play: Callable[..., Run],
) -> None:
    headers = play("ok").headers
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["x-accel-buffering"] == "no"


@each_sdk
def test_the_first_token_is_out_before_the_second_is_made(
    play: Callable[..., Run], provider: scripted.Provider, sdk: str
) -> None:
    provider.go(1)
    run = play(**{sdk: "gated"}, disconnect_at=2)
    assert texts(run) == ["Tea"]
    assert provider.wait(1).tokens_made == 1


@each_sdk
@pytest.mark.parametrize("scenario", ["newlines", "framing", "emoji", "utf8-split"])
def test_any_token_arrives_as_it_was(
    play: Callable[..., Run], sdk: str, scenario: str
) -> None:
    run = play(**{sdk: scenario})
    assert texts(run) == said(scenario)
    assert {event.event for event in events(run)} == {"start", "token", "done"}


# A network of the test's own, below both SDKs

TOKENS = [Token("text", "Tea"), Token("text", " is")]
PATHS = {"openai": "/chat/completions", "anthropic": "/messages"}
ANSWER = Answer(1, "ok", TOKENS)
EVENTS = {sdk: list(FORMATS[path].stream(ANSWER)) for sdk, path in PATHS.items()}
GOOD = {sdk: b"".join(map(frame, made)) for sdk, made in EVENTS.items()}


class Fake:
    """What it says comes through the real SDKs as if from the network."""

    def __init__(self) -> None:
        self.bodies = dict(GOOD)
        self.statuses = {"openai": 200, "anthropic": 200}
        self.headers: dict[str, str] = {}
        self.error: BaseException | None = None
        self.asked: list[str] = []
        self.requests: list[httpx2.Request] = []
        self.read = 0
        self.closed = 0

    async def respond(self, request: httpx2.Request) -> httpx2.Response:
        """Answer one request."""
        sdk = "anthropic" if request.url.path.endswith("/messages") else "openai"
        self.asked.append(sdk)
        self.requests.append(request)
        body = self.pieces(self.bodies[sdk])
        return httpx2.Response(self.statuses[sdk], headers=self.headers, content=body)

    async def pieces(self, body: bytes) -> AsyncIterator[bytes]:
        """Give the body in pieces, then the error if there is one."""
        try:
            for start in range(0, len(body), 65_536):
                self.read += len(body[start : start + 65_536])
                yield body[start : start + 65_536]
            if self.error:
                raise self.error
        finally:
            self.closed += 1


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Put a fake network below the SDKs; both providers have a key."""
    transport = Fake()

    def client(**options: Any) -> httpx2.AsyncClient:  # noqa: ANN401 - passed on
        mock = httpx2.MockTransport(lambda request: transport.respond(request))
        return httpx2.AsyncClient(transport=mock, **options)

    monkeypatch.setattr(openai, "DefaultAsyncHttpxClient", client)
    for name in ("OPENAI", "ANTHROPIC"):
        monkeypatch.setenv(f"{name}_API_KEY", KEY)
        monkeypatch.delenv(f"{name}_BASE_URL", raising=False)
        monkeypatch.delenv(f"{name}_MODEL", raising=False)
    monkeypatch.setattr("openai._base_client.get_platform", lambda: "Unknown")
    monkeypatch.setattr("anthropic._base_client.get_platform", lambda: "Unknown")
    return transport


def only(sdk: str, **more: str) -> dict[str, str]:
    """Take the other provider's key away."""
    other = {"openai": "ANTHROPIC", "anthropic": "OPENAI"}[sdk]
    return {f"{other}_API_KEY": "", **more}


# One mapping

STATUSES = {
    **dict.fromkeys((400, 413, 422), "refused"),
    **dict.fromkeys((401, 403, 404), "setup"),
    **dict.fromkeys((429, 503, 529), "busy"),
    **dict.fromkeys((408, 504), "timeout"),
    **dict.fromkeys((302, 402, 409, 418, 500, 502, 599), "provider"),
}


@each_sdk
@pytest.mark.parametrize(("theirs", "kind"), STATUSES.items())
def test_every_status_of_a_provider_has_one_meaning(
    fake: Fake, sdk: str, theirs: int, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    fake.statuses[sdk] = theirs
    fake.bodies[sdk] = json.dumps({"error": {"message": CANARY}}).encode()
    run = asked(only(sdk))
    failed = failed_with(run)
    assert (failed.type, failed.status) == (kind, run.status)
    assert failed in FAILURES
    assert CANARY not in run.body.decode() + str(run.headers) + caplog.text
    assert f"<class '{sdk}." in caplog.text


REQUEST = httpx2.Request("POST", "https://provider.example")
ERRORS: dict[str, tuple[Exception, str]] = {
    "our deadline": (TimeoutError(), "timeout"),
    "openai's timeout": (openai.APITimeoutError(REQUEST), "timeout"),
    "anthropic's timeout": (anthropic.APITimeoutError(REQUEST), "timeout"),
    "openai, no connection": (openai.APIConnectionError(request=REQUEST), "provider"),
    "anthropic, no connection": (
        anthropic.APIConnectionError(request=REQUEST),
        "provider",
    ),
    "openai, an event": (openai.APIError("x", REQUEST, body=None), "provider"),
    "httpx2, as anthropic lets it through": (httpx2.ReadError("x"), "provider"),
    "no `done`": (StopAsyncIteration(), "truncated"),
    "anything else": (AttributeError("x"), "unreadable"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_has_one_meaning(name: str) -> None:
    error, kind = ERRORS[name]
    assert llm_errors.explain(error).type == kind


def test_an_error_in_the_stream_has_the_meaning_of_its_type(
    play: Callable[..., Run],
) -> None:
    assert told(play(anthropic="overloaded-midstream")).endswith(
        "`failed` (busy), from Anthropic"
    )
    assert told(play(openai="overloaded-midstream")).endswith("`failed` (provider)")


@pytest.mark.parametrize("kind", [None, 7, [], {"a": []}, "x", "overloaded_error"])
def test_the_type_of_an_error_may_be_anything(fake: Fake, kind: object) -> None:
    error = {"type": "error", "error": {"type": kind, "message": CANARY}}
    body = json.dumps(error).encode()
    fake.bodies["openai"] = b"data: " + body + b"\n\n"
    fake.bodies["anthropic"] = b"event: error\ndata: " + body + b"\n\n"
    for sdk in SDKS:
        busy = kind == "overloaded_error"
        assert failed_with(asked(only(sdk))).type == ("busy" if busy else "provider")


def test_each_failure_has_a_type_of_its_own_and_no_words_but_ours() -> None:
    assert len(FAILURES) == len({failed.type for failed in FAILURES}) == 7
    page = (catalog.ROOT / "docs/recipes/llm_errors.md").read_text("utf-8")
    for failed in FAILURES:
        retry = "yes" if failed.retryable else "no"
        row = rf"^\| `{failed.type}` \| {failed.status} \| .* \| {retry} \|$"
        assert re.search(row, page, re.MULTILINE), failed


def test_the_page_names_the_constants() -> None:
    page = (catalog.ROOT / "docs/recipes/llm_errors.md").read_text("utf-8")
    for name in ("FIRST", "BEGIN", "IDLE", "TOTAL"):
        seconds = getattr(llm_errors, name)
        assert re.search(rf"^\| `{name}` \| {seconds:g} \|", page, re.MULTILINE), name


# Deadlines


@pytest.mark.parametrize("scenario", ["no-head", "stall-before-first", "gated"])
@each_sdk
def test_a_request_that_brings_no_token_in_time_is_a_504_and_not_made_again(
    play: Callable[..., Run], provider: scripted.Provider, sdk: str, scenario: str
) -> None:
    run = play(**{sdk: scenario}, deadline=1.0)
    assert failed_with(run) == llm_errors.SLOW
    assert run.status == 504
    assert len(provider.requests()) == 1
    assert provider.wait(1).hung_up_after == 0


@each_sdk
def test_a_silence_between_two_tokens_ends_the_answer(
    play: Callable[..., Run], provider: scripted.Provider, sdk: str
) -> None:
    run = play(**{sdk: "stall-after-first"}, deadline=2.0)
    assert (texts(run), failed_with(run)) == (["Tea"], llm_errors.SLOW)
    assert provider.wait(1).hung_up_after == 1


def test_no_silence_ends_an_answer_that_has_taken_too_long(
    play: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llm_errors, "TOTAL", 0.0)
    run = play("stall-after-first")
    assert (texts(run), failed_with(run)) == (["Tea"], llm_errors.SLOW)


def test_all_requests_together_have_a_deadline(
    play: Callable[..., Run],
    provider: scripted.Provider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(llm_errors, "BEGIN", 1.0)
    run = play("no-head", "no-head")
    assert (run.status, failed_with(run)) == (504, llm_errors.SLOW)
    assert len(provider.requests()) == 1


# Retries


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Note how long the recipe would wait, and do not wait."""
    seconds: list[float] = []

    async def sleep(delay: float) -> None:
        seconds.append(delay)

    monkeypatch.setattr("stamina._core._smart_sleep", sleep)
    llm_errors.recent.extend([-60.0] * 20)
    return seconds


def answered(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Ask without stamina's test mode, which waits for no time at all."""
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return drive(llm_errors.app, ASK)


@each_sdk
def test_before_the_first_token_a_failure_is_tried_again_twice(
    fake: Fake, sdk: str, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.statuses[sdk] = 500
    run = answered(only(sdk), monkeypatch)
    assert (run.status, fake.asked) == (502, [sdk] * 3)
    first, second = waits
    assert 0.1 <= first <= 1.1
    assert 0.2 <= second <= 1.2


@pytest.mark.parametrize("theirs", [400, 401, 404, 408, 504])
@each_sdk
def test_what_would_fail_again_is_not_tried_again(
    fake: Fake, sdk: str, theirs: int
) -> None:
    fake.statuses[sdk] = theirs
    asked(only(sdk))
    assert fake.asked == [sdk]


def test_after_the_first_token_nothing_is_tried_again(
    play: Callable[..., Run], provider: scripted.Provider
) -> None:
    for scenario in ("overloaded-midstream", "truncated", "odd-shapes", "half-event"):
        provider.reset()
        run = play(scenario, "ok")
        assert texts(run) == ["Tea", " is"]
        assert len(provider.requests()) == 1


@each_sdk
def test_a_retry_after_is_waited_for(
    fake: Fake, sdk: str, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.statuses[sdk] = 429
    fake.headers = {"Retry-After": "5"}
    run = answered(only(sdk), monkeypatch)
    assert (run.status, waits) == (429, [5.0, 5.0])
    assert run.headers["retry-after"] == "5"


@pytest.mark.parametrize(
    ("theirs", "ours"), [("6", "6"), ("86400", "60"), ("9" * 9, "60")]
)
def test_a_longer_one_is_the_clients_to_wait_for_but_a_minute_at_most(
    fake: Fake,
    theirs: str,
    ours: str,
    waits: list[float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake.statuses["openai"] = 429
    fake.headers = {"Retry-After": theirs}
    run = answered(only("openai"), monkeypatch)
    assert (run.status, run.headers["retry-after"]) == (429, ours)
    assert (fake.asked, waits) == (["openai"], [])


@pytest.mark.parametrize(
    "theirs",
    [
        "",
        "-1",
        "1.5",
        "soon",
        "9" * 10,
        "inf",
        "Wed, 21 Oct 2026 07:28:00 GMT",
        "0",
    ],
)
def test_any_other_one_is_no_reason_to_wait_longer_or_shorter(
    fake: Fake, theirs: str, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.statuses["openai"] = 429
    fake.headers = {"Retry-After": theirs.encode().decode("latin-1")}
    run = answered(only("openai"), monkeypatch)
    assert (run.status, len(waits)) == (429, 2)
    assert run.headers.get("retry-after") == ("0" if theirs == "0" else None)
    assert all(0 < wait < 2 for wait in waits)


@pytest.mark.parametrize("headers", [None, {}, {"Retry-After": "0"}])
def test_where_the_provider_names_no_wait_stamina_chooses_it(
    headers: dict[str, str] | None,
) -> None:
    llm_errors.recent.extend([-60.0] * 20)
    error = HTTPException(502, asdict(llm_errors.BROKEN), headers)
    assert llm_errors.again(error) is True  # A number would be the seconds to wait.


def ask_often(number: int) -> list[int]:
    """Ask one running application again and again, and give the statuses."""
    with TestClient(llm_errors.app) as client, stamina.set_testing(True, attempts=3):
        return [client.get(ASK).status_code for _ in range(number)]


def test_a_hundred_questions_to_a_broken_provider_are_not_three_hundred_requests(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "")
    llm_errors.recent.extend([-60.0] * 20)
    now = 1000.0
    # Only the recipe's own clock: those of the event loops go on.
    clock = SimpleNamespace(monotonic=lambda: now)
    monkeypatch.setattr(llm_errors, "time", clock)
    fake.statuses["openai"] = 500
    assert ask_often(100) == [502] * 100
    # The first nineteen failures could be followed by a retry; the third never is.
    assert len(fake.asked) == 100 + 13
    fake.asked.clear()
    now += 60
    ask_often(1)
    assert len(fake.asked) == 3


def test_when_retries_have_ended_the_second_provider_is_still_asked(fake: Fake) -> None:
    llm_errors.recent.extend([time.monotonic()] * 20)
    fake.statuses["openai"] = 500
    assert ask_often(1) == [200]
    assert fake.asked == ["openai", "anthropic"]


# The second provider


@pytest.mark.parametrize(
    "scenario", ["unauthorized", "rate-limited", "server-error", "gzip-bomb"]
)
def test_before_the_first_token_the_second_provider_takes_over(
    play: Callable[..., Run], scenario: str
) -> None:
    run = play(scenario, "ok", deadline=5.0)
    assert told(run) == "8 tokens, `done` (end_turn), from Anthropic"


def test_if_both_fail_the_client_is_told_the_second_ones_reason(
    play: Callable[..., Run],
) -> None:
    assert play("unauthorized", "rate-limited").status == 429
    assert play("rate-limited", "unauthorized").status == 503


def test_the_second_is_not_asked_while_the_first_answers(
    fake: Fake,
) -> None:
    assert asked({}).status == 200
    assert fake.asked == ["openai"]


def test_without_a_key_nobody_is_asked(fake: Fake) -> None:
    run = asked({"OPENAI_API_KEY": "", "ANTHROPIC_API_KEY": ""})
    assert (run.status, failed_with(run), fake.asked) == (503, llm_errors.SETUP, [])


def test_the_models_are_those_of_the_environment_or_of_the_recipe(fake: Fake) -> None:
    for env in ({}, {"OPENAI_MODEL": "a", "ANTHROPIC_MODEL": "b"}):
        for sdk in SDKS:
            asked(only(sdk, **env))
    asked_for = [json.loads(request.content)["model"] for request in fake.requests]
    assert asked_for == ["gpt-5.6-luna", "claude-haiku-5-5", "a", "b"]
    assert '"gpt-5.6-luna"' in inspect.getsource(
        inspect.getmodule(ChatModel) or openai
    ) or ("gpt-5.6-luna" in str(ChatModel))
    assert "claude-haiku-5-5" in str(Model)


def test_both_are_asked_the_same_question_with_the_same_limit(fake: Fake) -> None:
    for sdk in SDKS:
        asked(only(sdk))
    gpt, claude = (json.loads(request.content) for request in fake.requests)
    assert gpt["messages"] == claude["messages"]
    assert gpt["messages"] == [{"role": "user", "content": "Why is tea hot"}]
    assert gpt["max_completion_tokens"] == claude["max_tokens"] == 1000
    assert gpt["stream"] is claude["stream"] is True


# A provider is untrusted input


SPOTS = [
    (sdk, number, path)
    for sdk in SDKS
    for number, event in enumerate(EVENTS[sdk])
    if isinstance(event.data, dict)
    for path in paths(event.data)
]
anything = tries(40)


def check(run: Run) -> None:
    """Check what holds for every answer, whatever the provider sends."""
    assert run.error is None
    run.body.decode("utf-8", "strict")
    if run.status == 200:
        first, *between, last = events(run)
        assert first.event == "start"
        assert {event.event for event in between} <= {"token"}
        assert last.event in {"done", "failed"}
        if last.event == "done":
            Done.model_validate_json(last.data)
            return
    assert failed_with(run) in FAILURES


@anything
@pytest.mark.timeout(60)
@given(spot=st.sampled_from(SPOTS), value=VALUES | st.just(...))
@example(spot=("openai", 1, ("choices", 0, "delta", "content")), value="half \ud83d")
@example(spot=("anthropic", 3, ("delta", "text")), value="half \ud83d")
@example(spot=("anthropic", 0, ("type",)), value="error")
@example(spot=("anthropic", 3, ("index",)), value=99)
def test_whatever_a_value_is_the_answer_ends_as_the_page_says(
    fake: Fake, spot: tuple[str, int, tuple[Any, ...]], value: object
) -> None:
    sdk, number, path = spot
    made = list(EVENTS[sdk])
    made[number] = made[number]._replace(data=replaced(made[number].data, path, value))
    fake.bodies[sdk] = b"".join(
        b"event: %s\ndata: %s\n\n"
        % ((event.name or "x").encode(), json.dumps(event.data).encode())
        for event in made
        if isinstance(event.data, dict | list) or event is made[number]
    )
    check(asked(only(sdk)))


@anything
@pytest.mark.timeout(60)
@given(
    sdk=st.sampled_from(SDKS),
    start=st.floats(0, 1),
    length=st.integers(0, 80),
    new=st.binary(max_size=8)
    | st.sampled_from([b"\xff", b"\r", b"\n\n", b"[" * 99999]),
)
def test_whatever_the_bytes_are_the_answer_ends_as_the_page_says(
    fake: Fake, sdk: str, start: float, length: int, new: bytes
) -> None:
    at = int(start * len(GOOD[sdk]))
    fake.bodies[sdk] = GOOD[sdk][:at] + new + GOOD[sdk][at + length :]
    check(asked(only(sdk)))


@pytest.mark.timeout(60)
@each_sdk
def test_wherever_the_bytes_end_only_a_whole_answer_is_done(
    fake: Fake, sdk: str
) -> None:
    reason = {"openai": b'"finish_reason":"stop"', "anthropic": b'"end_turn"'}[sdk]
    for end in range(0, len(GOOD[sdk]), 41):
        fake.bodies[sdk] = GOOD[sdk][:end]
        run = asked(only(sdk))
        check(run)
        if b"event: done" in run.body:
            assert reason in GOOD[sdk][:end].replace(b" ", b"")
            assert texts(run) == ["Tea", " is"]


@pytest.mark.parametrize(
    ("length", "end"), [(1_000_000, "done"), (1_000_001, "failed")]
)
def test_a_token_has_at_most_a_million_characters(
    fake: Fake, length: int, end: str
) -> None:
    made = list(FORMATS["/chat/completions"].stream(ANSWER))
    content = ("choices", 0, "delta", "content")
    made[2] = made[2]._replace(data=replaced(made[2].data, content, "x" * length))
    fake.bodies["openai"] = b"".join(map(frame, made))
    assert events(asked(only("openai")))[-1].event == end


def test_the_limit_is_two_megabytes() -> None:
    assert llm_errors.LIMIT == 2_000_000


ENDLESS = b"data: " + b"x" * 5_000_000


@each_sdk
def test_a_response_is_read_up_to_its_limit_and_no_further(
    fake: Fake, sdk: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Attack: The provider's response never ends: it is read up to its limit."""
    fake.bodies[sdk] = GOOD[sdk].split(b"data: [DONE]")[0][:700] + ENDLESS
    run = asked(only(sdk))
    assert failed_with(run) == llm_errors.ODD
    assert llm_errors.LIMIT < fake.read <= llm_errors.LIMIT + 65_536
    assert fake.closed == 1
    assert "ValueError" in caplog.text


@each_sdk
@pytest.mark.parametrize("status", [400, 500])
def test_so_is_the_body_of_a_refusal(fake: Fake, sdk: str, status: int) -> None:
    fake.statuses[sdk] = status
    fake.bodies[sdk] = ENDLESS
    run = asked(only(sdk))
    assert failed_with(run) == llm_errors.ODD
    assert (run.status, len(fake.asked)) == (502, 1)
    assert fake.read <= llm_errors.LIMIT + 65_536


def test_a_response_of_exactly_the_limit_is_read(fake: Fake) -> None:
    comment = b": " + b"x" * (llm_errors.LIMIT - len(GOOD["openai"]) - 3) + b"\n"
    fake.bodies["openai"] = comment + GOOD["openai"]
    assert len(fake.bodies["openai"]) == llm_errors.LIMIT
    assert told(asked(only("openai"))) == "2 tokens, `done` (stop)"
    fake.bodies["openai"] = b":\n" + fake.bodies["openai"]
    assert failed_with(asked(only("openai"))) == llm_errors.ODD


@each_sdk
@pytest.mark.parametrize("coding", ["gzip", "deflate", "GZIP", "gzip, gzip"])
def test_nothing_is_unpacked_and_an_honest_provider_is_told_so(
    fake: Fake, sdk: str, coding: str
) -> None:
    fake.headers = {"Content-Encoding": coding}
    assert told(asked(only(sdk))).startswith("2 tokens, `done`")
    assert fake.requests[0].headers["accept-encoding"] == "identity"


@each_sdk
def test_a_redirect_is_not_followed_and_carries_the_question_nowhere(
    fake: Fake, sdk: str
) -> None:
    """Attack: The provider redirects elsewhere: the question stays here."""
    fake.statuses[sdk] = 307
    fake.headers = {"Location": "https://elsewhere.example/"}
    assert failed_with(asked(only(sdk))) == llm_errors.BROKEN
    assert not [r for r in fake.requests if r.url.host == "elsewhere.example"]


def test_the_key_goes_to_its_own_provider_and_nowhere_else(
    fake: Fake, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack: Two providers: each gets its own key, and the log gets neither."""
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "another-key")
    fake.statuses["openai"] = 500
    fake.bodies["openai"] = KEY.encode()
    run = asked({})
    gpt, claude = fake.requests[0], fake.requests[-1]
    assert gpt.headers["authorization"] == f"Bearer {KEY}"
    assert claude.headers["authorization"] == "Bearer another-key"
    assert KEY not in str(claude.headers)
    logged = caplog.text + str([vars(record) for record in caplog.records])
    assert "stamina.retry_scheduled" in logged
    assert KEY not in run.body.decode() + logged
    assert "Why is tea hot" not in logged


# The client


@pytest.mark.parametrize("prompt", ["", "x" * 2001])
def test_a_bad_prompt_is_refused_and_costs_nothing(fake: Fake, prompt: str) -> None:
    with TestClient(llm_errors.app) as client:
        assert client.get("/answer", params={"prompt": prompt}).status_code == 422
        assert client.get("/answer").status_code == 422
        assert fake.asked == []
        assert client.get("/answer", params={"prompt": "x" * 2000}).status_code == 200


@pytest.mark.usefixtures("noted_close")
@pytest.mark.parametrize("slow", [False, True], ids=["", "while it is slow"])
@pytest.mark.parametrize("by", ["disconnect_at", "cancel_at"])
@each_sdk
def test_the_providers_stream_is_closed_before_the_request_is_over(
    play: Callable[..., Run],
    provider: scripted.Provider,
    sdk: str,
    by: str,
    slow: bool,
) -> None:
    scenario, made, stall_at = ("at-once", 19, 4) if slow else ("gated", 3, None)
    provider.go(made)
    run = play(**{sdk: scenario}, stall_at=stall_at, **{by: 4})
    assert "closed" in run.before(run.journal[-1])
    assert provider.wait(1).hung_up_after == made
    if by == "disconnect_at":
        assert run.error is None


@each_sdk
@pytest.mark.parametrize("scenario", ["no-head", "stall-before-first"])
def test_a_client_that_leaves_before_the_first_token_ends_the_request(
    play: Callable[..., Run], provider: scripted.Provider, sdk: str, scenario: str
) -> None:
    def begun() -> None:
        provider.wait(1, until=lambda request: request.id > 0)

    run = play(**{sdk: scenario}, leave_after=begun)
    assert (run.journal[0], run.chunks) == ("disconnect", [])
    assert provider.wait(1).hung_up_after == 0
    assert len(provider.requests()) == 1
    # Nobody who leaves counts as a failure of the provider.
    assert set(llm_errors.recent) == {-60.0}


def test_a_client_that_leaves_between_two_requests_ends_the_retries(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = asyncio.Event()

    async def sleep(_: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    def begun() -> None:
        while not waiting.is_set():
            pass

    monkeypatch.setattr("stamina._core._smart_sleep", sleep)
    fake.statuses["openai"] = 500
    run = asked({}, leave_after=begun)
    assert run.journal[0] == "disconnect"
    assert fake.asked == ["openai"]


def test_one_client_keeps_its_connection_for_the_next_answer(
    provider: scripted.Provider,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.DEBUG)
    for name, value in environment(provider, openai="ok").items():
        monkeypatch.setenv(name, value)
    with TestClient(llm_errors.app) as client:
        assert [client.get(ASK).status_code for _ in range(3)] == [200] * 3
    connects = [m for m in caplog.messages if m.startswith("connect_tcp.complete")]
    assert len(connects) == 1
