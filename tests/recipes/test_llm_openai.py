"""docs/recipes/llm_openai.md: every claim the page makes, proved against the recipe."""

import asyncio
import copy
import inspect
import json
import logging
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from typing import Any, cast, get_args

import httpx2
import openai
import pytest
from fastapi import FastAPI, HTTPException, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from fastapi.testclient import TestClient
from hypothesis import example, given
from hypothesis import strategies as st
from openai.types import ChatModel
from openai.types.chat import ChatCompletionChunk
from openai.types.chat.chat_completion_chunk import Choice, ChoiceDelta
from openai.types.shared import chat_model
from pydantic import BaseModel
from starlette.types import Receive

from cookbook import catalog
from cookbook.llm import scripted
from cookbook.llm.formats import answer as script
from cookbook.llm.formats import responses
from recipes import llm_openai
from recipes.llm_openai import Done, Failed, Start, Token
from tests.kit.asgi import Run, drive
from tests.kit.llm import (
    ASK,
    SCENARIOS,
    WORDS,
    Play,
    behind_middleware,
    events,
    gone,
    last,
    never,
    plain,
    said,
    texts,
)
from tests.kit.untrusted import (
    CANARY,
    CHUNKS,
    VALUES,
    Fake,
    below,
    framed,
    paths,
    replaced,
    tries,
    whole,
)

RESPONSES = "/responses?prompt=Why+is+tea+hot"
MODELS: dict[str, type[BaseModel]] = {
    "start": Start,
    "token": Token,
    "done": Done,
    "failed": Failed,
}
KEY = "sk-canary-4711"
BROKE_OFF = "The answer broke off."


@pytest.fixture
def play(provider: scripted.Provider, monkeypatch: pytest.MonkeyPatch) -> Play:
    return Play(llm_openai.app, provider, monkeypatch)


# The four events


def test_an_answer_is_a_start_its_tokens_and_done(play: Play) -> None:
    run = play("ok")
    names = [event.event for event in events(run)]
    assert names == ["start", *["token"] * len(WORDS), "done"]
    assert texts(run) == WORDS


def test_each_event_is_one_of_the_four_models(play: Play) -> None:
    for scenario in ("ok", "truncated"):
        for event in events(play(scenario)):
            model = MODELS[event.event].model_validate_json(event.data, strict=True)
            assert json.loads(event.data) == model.model_dump()


def test_these_are_the_bytes_of_the_start_and_of_a_token(play: Play) -> None:
    assert play("ok").chunks[:2] == [
        b'event: start\ndata: {"id":"chatcmpl-1","model":"ok"}\n\n',
        b'event: token\ndata: {"text":"Tea"}\n\n',
    ]


def test_done_has_the_reason_and_the_bill(play: Play) -> None:
    name, data = last(play("usage"))
    done = Done.model_validate(data)
    assert (name, done.finish_reason) == ("done", "stop")
    assert done.usage
    assert (done.usage.prompt_tokens, done.usage.completion_tokens) == (2000, 5)
    assert done.usage.prompt_tokens_details
    assert done.usage.prompt_tokens_details.cached_tokens == 1536


def test_it_is_an_event_stream_that_a_proxy_must_not_hold(play: Play) -> None:
    headers = play("ok").headers
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["cache-control"] == "no-cache"
    assert headers["x-accel-buffering"] == "no"


def test_the_first_token_is_out_before_the_second_is_made(
    play: Play, provider: scripted.Provider
) -> None:
    provider.go(1)
    run = play("gated", disconnect_at=2)
    assert texts(run) == ["Tea"]
    assert provider.wait(1).tokens_made == 1


# What tokens may be


@pytest.mark.parametrize("path", [ASK, RESPONSES])
@pytest.mark.parametrize(
    "scenario", ["newlines", "framing", "hostile-markdown", "emoji", "huge-token"]
)
def test_any_token_arrives_as_it_was_and_forges_nothing(
    play: Play, scenario: str, path: str
) -> None:
    """Attack: The model writes line ends and SSE fields: it forges no event."""
    run = play(scenario, path)
    assert texts(run) == said(scenario)
    assert {event.event for event in events(run)} == {"start", "token", "done"}
    assert all(chunk.count(b"\n\n") == 1 for chunk in run.chunks)


@pytest.mark.parametrize(
    "scenario", ["crlf", "crlf-split", "utf8-split", "joined-events", "slow-body"]
)
def test_how_the_provider_cuts_its_bytes_does_not_matter(
    play: Play, scenario: str
) -> None:
    assert texts(play(scenario)) == said(scenario)


def test_content_that_is_none_makes_no_event(play: Play) -> None:
    assert texts(play("null-content")) == ["Tea", " is", " hot", "."]


@pytest.mark.parametrize("path", [ASK, RESPONSES])
def test_a_refusal_is_an_answer_too(play: Play, path: str) -> None:
    run = play("refusal", path)
    assert "".join(texts(run)) == "I cannot help with that."
    assert last(run)[0] == "done"


# What goes wrong

CUT = ("truncated", "truncated-at-the-end", "half-event")
BROKEN = ("overloaded-midstream", "reset", "stall-before-first", "stall-after-first")


@pytest.mark.parametrize("path", [ASK, RESPONSES])
@pytest.mark.parametrize("scenario", CUT + BROKEN)
def test_an_answer_that_broke_off_ends_with_failed_and_never_with_done(
    play: Play, scenario: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if scenario.startswith("stall"):  # The others end by themselves.
        monkeypatch.setattr(llm_openai, "SILENCE", 2.0)
    run = play(scenario, path)
    kind = "truncated" if scenario in CUT else "provider"
    failed = {"type": kind, "message": BROKE_OFF, "retryable": True}
    assert last(run) == ("failed", failed)
    # A reset may overtake what the provider had sent before it.
    complete = SCENARIOS[scenario].after if scenario != "reset" else 0
    assert texts(run)[:complete] == said(scenario)[:complete]
    assert run.journal[-2:] == ["end", "returned"]


def test_a_failure_in_mid_stream_is_not_tried_again(
    play: Play, provider: scripted.Provider
) -> None:
    play("overloaded-midstream")
    assert len(provider.requests()) == 1


def test_an_error_after_the_reason_is_a_failure_too(fake: Fake) -> None:
    fake.body = framed(*CHUNKS[:-1]) + b'data: {"error": {"message": "x"}}\n\n'
    name, data = last(drive(llm_openai.app, ASK))
    assert (name, Failed.model_validate(data).retryable) == ("failed", True)


# A provider is untrusted input

GOOD = whole(*CHUNKS)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Put a fake network below the SDK; at first it gives the good answer."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return below(openai, "AsyncOpenAI", monkeypatch, GOOD)


def check(run: Run) -> str:
    """Check what holds for every answer, and give the name of its last event."""
    assert (run.status, run.error) == (200, None)
    assert run.journal[-2:] == ["end", "returned"]
    run.body.decode("utf-8", "strict")
    for event in events(run):
        MODELS[event.event].model_validate_json(event.data)
    name, data = last(run)
    if name == "failed":
        failed = Failed.model_validate(data)
        assert failed.type in {"truncated", "provider"}
        assert failed.message == BROKE_OFF
    return name


PATHS = [path for path in paths(CHUNKS) if len(path) > 1]
anything = tries(150)


@anything
@pytest.mark.timeout(60)
@given(path=st.sampled_from(PATHS), value=VALUES | st.just(...))
@example(path=(1, "choices", 0, "delta", "content"), value="half \ud83d")
@example(path=(3, "choices", 0, "finish_reason"), value=5)
@example(path=(1, "choices"), value=...)
@example(path=(1, "choices", 0, "delta"), value=...)
@example(path=(4, "usage", "prompt_tokens"), value="many")
@example(path=(4, "usage", "prompt_tokens_details", "cached_tokens"), value="\ud83d")
def test_whatever_a_value_of_a_chunk_is_the_answer_ends_with_done_or_failed(
    fake: Fake, path: tuple[Any, ...], value: object
) -> None:
    fake.body = whole(*replaced(CHUNKS, path, value))
    check(drive(llm_openai.app, ASK))


@anything
@pytest.mark.timeout(60)
@given(
    start=st.integers(0, len(GOOD)),
    length=st.integers(0, 80),
    new=st.binary(max_size=8) | st.sampled_from([b"\xff", b"\r", b"\n\n", GOOD]),
    cuts=st.lists(st.integers(0, len(GOOD)), max_size=4),
)
def test_whatever_the_bytes_are_the_answer_ends_with_done_or_failed(
    fake: Fake, start: int, length: int, new: bytes, cuts: list[int]
) -> None:
    """Attack: The provider sends any bytes: the answer ends with done or failed."""
    fake.body = GOOD[:start] + new + GOOD[start + length :]
    fake.cuts = cuts
    check(drive(llm_openai.app, ASK))


@anything
@pytest.mark.timeout(60)
@given(end=st.integers(0, len(GOOD)), reset=st.booleans())
def test_wherever_the_bytes_end_only_a_whole_answer_is_done(
    fake: Fake, end: int, reset: bool
) -> None:
    fake.body = GOOD[:end]
    fake.error = httpx2.ReadError(CANARY) if reset else None
    run = drive(llm_openai.app, ASK)
    # A connection that is lost after the provider's last event has done no harm.
    lost = reset and b"[DONE]" not in fake.body
    complete = not lost and b'"finish_reason":"stop"' in fake.body.replace(b" ", b"")
    if check(run) == "done":
        assert complete
        assert texts(run) == ["Tea", " is"]
    assert CANARY not in run.body.decode()


NESTED = "[" * 100_000
ODD: dict[str, tuple[bytes, bool]] = {
    "an error with words": (framed({"error": {"message": CANARY}}), True),
    "an error without": (framed({"error": CANARY}), True),
    "no object": (framed(CANARY), False),
    "nothing": (framed(None), False),
    "no JSON": (b"data: " + CANARY.encode() + b"\n\n", False),
    "no UTF-8": (b"data: \xff" + CANARY.encode() + b"\n\n", False),
    "too deep": (b"data: " + NESTED.encode() + b"\n\n", False),
    "a reason of another kind": (
        framed(replaced(CHUNKS[3], ("choices", 0, "finish_reason"), {"x": CANARY})),
        False,
    ),
    "a usage of another kind": (
        framed(replaced(CHUNKS[4], ("usage", "total_tokens"), CANARY)),
        False,
    ),
    "details of another kind": (
        framed(
            replaced(CHUNKS[4], ("usage", "prompt_tokens_details"), {"x": [CANARY]}),
            replaced(
                CHUNKS[4], ("usage", "completion_tokens_details"), f"{CANARY} words"
            ),
        ),
        False,
    ),
}


@pytest.mark.parametrize("odd", ODD)
def test_what_cannot_be_read_is_failed_and_its_words_go_nowhere(
    fake: Fake, odd: str, caplog: pytest.LogCaptureFixture
) -> None:
    body, retryable = ODD[odd]
    fake.body = framed(*CHUNKS[:2]) + body + GOOD
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        run = drive(llm_openai.app, ASK)
    assert CANARY not in str([str(warning.message) for warning in warned])
    assert check(run) == "failed"
    assert last(run)[1] == {
        "type": "provider",
        "message": BROKE_OFF,
        "retryable": retryable,
    }
    assert texts(run) == ["Tea"]
    assert CANARY not in run.body.decode()
    # The log has the kind of the error and where it arose, but not what it says.
    assert "Broke off: <class " in caplog.text
    assert "recipes/llm_openai.py" in caplog.text
    assert CANARY not in caplog.text


@pytest.mark.parametrize(
    ("length", "end"), [(1_000_000, "done"), (1_000_001, "failed")]
)
def test_a_token_has_at_most_a_million_characters(
    fake: Fake, length: int, end: str
) -> None:
    path = ("choices", 0, "delta", "content")
    fake.body = framed(CHUNKS[0], replaced(CHUNKS[1], path, "x" * length), CHUNKS[3])
    assert check(drive(llm_openai.app, ASK)) == end


def test_fields_that_nobody_knows_are_not_passed_on(fake: Fake) -> None:
    usage = copy.deepcopy(CHUNKS[4])
    usage["usage"]["secret"] = CANARY
    usage["usage"]["prompt_tokens_details"]["secret"] = CANARY
    fake.body = framed(*CHUNKS[:4], usage)
    run = drive(llm_openai.app, ASK)
    assert check(run) == "done"
    assert CANARY not in run.body.decode()


# Refused before the first byte


@pytest.mark.parametrize(
    ("scenario", "status", "sentence"),
    [
        ("unauthorized", 503, "The provider does not accept the key."),
        ("rate-limited", 429, "The model is busy."),
        ("server-error", 502, "The provider did not answer."),
        ("overloaded", 502, "The provider did not answer."),
    ],
)
def test_what_fails_before_the_first_byte_has_a_status_of_its_own(
    play: Play, provider: scripted.Provider, scenario: str, status: int, sentence: str
) -> None:
    run = play(scenario)
    assert (run.status, json.loads(run.body)) == (status, {"detail": sentence})
    # The SDK would ask again by itself; here that is left to the client.
    assert len(provider.requests()) == 1


STATUSES = {401: 503, 403: 503, 429: 429} | dict.fromkeys(
    (302, 304, 400, 404, 408, 409, 418, 422, 500, 502, 503, 504, 529), 502
)


@pytest.mark.parametrize(("theirs", "ours"), STATUSES.items())
def test_every_refusal_is_told_in_words_of_our_own(
    fake: Fake, theirs: int, ours: int, caplog: pytest.LogCaptureFixture
) -> None:
    fake.status = theirs
    fake.body = json.dumps({"error": {"message": CANARY}}).encode()
    run = drive(llm_openai.app, ASK)
    assert (run.status, fake.asked) == (ours, 1)
    assert CANARY not in run.body.decode() + str(run.headers) + caplog.text
    assert ("No answer: <class 'openai." in caplog.text) == (ours == 502)


def test_a_refusal_that_breaks_off_is_a_502_too(
    fake: Fake, caplog: pytest.LogCaptureFixture
) -> None:
    fake.status = 400
    fake.error = httpx2.ReadError(CANARY)
    run = drive(llm_openai.app, ASK)
    assert (run.status, run.error) == (502, None)
    assert CANARY not in run.body.decode() + caplog.text


@pytest.mark.parametrize("theirs", ["7", "86400", "-1", "soon", None])
def test_who_is_told_429_is_told_to_wait_a_minute_whatever_the_provider_says(
    fake: Fake, theirs: str | None
) -> None:
    fake.status = 429
    fake.headers = {} if theirs is None else {"Retry-After": theirs}
    run = drive(llm_openai.app, ASK)
    assert (run.status, run.headers["retry-after"]) == (429, "60")
    assert fake.asked == 1


def test_a_client_waits_at_most_the_silence_for_a_status(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llm_openai, "SILENCE", 0.05)

    async def drip(_: httpx2.Request) -> httpx2.Response:
        """Never be silent for long enough for the SDK's own limit, nor answer."""
        fake.asked += 1
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(fake, "respond", drip)
    run = drive(llm_openai.app, ASK)
    sentence = "The provider did not answer."
    assert (run.status, json.loads(run.body)) == (502, {"detail": sentence})
    assert fake.asked == 1


def test_the_sdk_alone_would_ask_three_times_and_wait_up_to_two_minutes_between(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = list[float]()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("openai._base_client.anyio.sleep", sleep)
    fake.status = 429
    fake.headers = {"Retry-After": "120"}

    async def ask() -> None:
        async with openai.AsyncOpenAI() as client:
            await client.chat.completions.create(model="any", messages=[], stream=True)

    with pytest.raises(openai.RateLimitError):
        asyncio.run(ask())
    assert (fake.asked, waits) == (3, [120, 120])


@pytest.mark.parametrize("prompt", ["", "x" * 2001])
def test_a_bad_prompt_is_refused_and_costs_nothing(
    prompt: str, provider: scripted.Provider
) -> None:
    with TestClient(llm_openai.app) as client:
        assert client.get("/answer", params={"prompt": prompt}).status_code == 422
        assert client.get("/answer").status_code == 422
        assert provider.requests() == []
        assert client.get("/answer", params={"prompt": "?"}).status_code == 200
        assert client.get("/answer", params={"prompt": "x" * 2000}).status_code == 200
    assert len(provider.requests()) == 2


def test_an_answer_that_met_its_limit_is_done_and_says_so() -> None:
    async def chunks() -> AsyncIterator[ChatCompletionChunk]:
        choice = Choice(delta=ChoiceDelta(), finish_reason="length", index=0)
        yield ChatCompletionChunk(
            id="1",
            choices=[choice],
            created=0,
            model="any",
            object="chat.completion.chunk",
        )

    async def collect() -> list[object]:
        return [event async for event in llm_openai.answer(cast(Any, chunks()))]

    start, done = asyncio.run(collect())
    assert start == Start(id="1", model="any")
    assert done == Done(finish_reason="length", usage=None)


# The Responses API

RESPONSE: list[dict[str, Any]] = [
    event.data
    for event in responses.stream(
        script.Answer(
            1, "ok", [script.Token("text", "Tea"), script.Token("refusal", " is")]
        )
    )
    if isinstance(event.data, dict)
]


def in_events(*events: object) -> bytes:
    """Write events as the Responses API does; the SDK reads only their data."""
    return b"".join(b"event: any\n" + framed(event) for event in events)


def at(kind: str) -> int:
    """Find the event of a type."""
    return [event["type"] for event in RESPONSE].index(f"response.{kind}")


LAST = at("completed")


def ended_as(kind: str, details: object, usage: object = None) -> bytes:
    """Write an answer whose last event is another one."""
    end = replaced(RESPONSE[LAST], ("type",), f"response.{kind}")
    end = replaced(end, ("response", "incomplete_details"), details)
    return in_events(*RESPONSE[:LAST], replaced(end, ("response", "usage"), usage))


def test_both_routes_send_the_same_events(play: Play) -> None:
    first, *tokens, end = events(play("usage"))
    other, *also, done = events(play("usage", RESPONSES))
    assert json.loads(first.data) == {"id": "chatcmpl-1", "model": "usage"}
    assert json.loads(other.data) == {"id": "resp_2", "model": "usage"}
    assert [tokens, end.event] == [also, done.event]
    chat, response = (Done.model_validate_json(e.data) for e in (end, done))
    assert (response.finish_reason, chat.finish_reason) == ("stop", "stop")
    assert chat.usage
    assert response.usage
    assert response.usage.model_dump(
        exclude={"completion_tokens_details"}
    ) == chat.usage.model_dump(exclude={"completion_tokens_details"})


@pytest.mark.usefixtures("provider")
def test_an_error_in_a_stream_of_responses_raises_nothing_in_the_sdk() -> None:
    async def kinds() -> list[str]:
        async with (
            openai.AsyncOpenAI() as client,
            await client.responses.create(
                model="overloaded-midstream", input="Why?", stream=True
            ) as events,
        ):
            return [event.type async for event in events]

    assert asyncio.run(kinds())[-2:] == ["error", "response.failed"]


@pytest.mark.parametrize("kind", ["error", "response.failed"])
def test_an_error_in_a_stream_of_responses_is_failed(
    fake: Fake, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    broken = {"type": kind, "message": CANARY, "response": {"id": CANARY}}
    fake.body = in_events(*RESPONSE[:LAST], broken, RESPONSE[LAST])
    run = drive(llm_openai.app, RESPONSES)
    assert (check(run), texts(run)) == ("failed", ["Tea", " is"])
    failed = {"type": "provider", "message": BROKE_OFF, "retryable": True}
    assert last(run)[1] == failed
    assert CANARY not in run.body.decode() + caplog.text
    assert "Broke off: <class 'openai.APIError'>" in caplog.text


@pytest.mark.parametrize(
    ("details", "reason"),
    [
        ({"reason": "max_output_tokens"}, "length"),
        ({"reason": "content_filter"}, "content_filter"),
        ({"reason": None}, "incomplete"),
        (None, "incomplete"),
    ],
)
def test_an_incomplete_response_is_done_and_says_why(
    fake: Fake, details: object, reason: str
) -> None:
    usage = RESPONSE[LAST]["response"]["usage"]
    fake.body = ended_as("incomplete", details, usage)
    done = Done.model_validate(last(drive(llm_openai.app, RESPONSES))[1])
    assert done.finish_reason == reason
    assert done.usage
    assert (done.usage.prompt_tokens, done.usage.total_tokens) == (12, 14)


@pytest.mark.parametrize("kind", ["completed", "incomplete"])
def test_a_response_may_say_nothing_of_its_usage(fake: Fake, kind: str) -> None:
    fake.body = ended_as(kind, None)
    run = drive(llm_openai.app, RESPONSES)
    assert check(run) == "done"
    assert Done.model_validate(last(run)[1]).usage is None


def test_a_response_that_does_not_name_its_model_has_the_name_that_was_asked_for(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_MODEL", "tea-model")
    fake.body = in_events(*replaced(RESPONSE, (0, "response", "model"), ...))
    run = drive(llm_openai.app, RESPONSES)
    assert json.loads(events(run)[0].data) == {"id": "resp_1", "model": "tea-model"}
    assert check(run) == "done"


def test_a_response_that_is_created_twice_has_one_start(fake: Fake) -> None:
    fake.body = in_events(RESPONSE[0], *RESPONSE)  # llama.cpp does that at times.
    run = drive(llm_openai.app, RESPONSES)
    assert [event.event for event in events(run)].count("start") == 1
    assert check(run) == "done"


def test_the_responses_api_is_told_to_keep_nothing(fake: Fake) -> None:
    drive(llm_openai.app, RESPONSES)
    assert fake.question == {
        "model": llm_openai.DEFAULT_MODEL,
        "input": "Why is tea hot",
        "store": False,
        "stream": True,
    }


def test_events_that_nobody_knows_are_left_out(fake: Fake) -> None:
    news = {"type": "response.weather.delta", "delta": CANARY}
    fake.body = in_events(RESPONSE[0], news, *RESPONSE[1:])
    run = drive(llm_openai.app, RESPONSES)
    assert (check(run), texts(run)) == ("done", ["Tea", " is"])


@anything
@pytest.mark.timeout(60)
@given(
    path=st.sampled_from([path for path in paths(RESPONSE) if len(path) > 1]),
    value=VALUES | st.just(...),
)
@example(path=(at("output_text.delta"), "delta"), value="half \ud83d")
@example(path=(at("output_text.delta"), "delta"), value=None)
@example(path=(0, "response"), value=None)
@example(path=(LAST, "response", "usage", "input_tokens"), value="many")
@example(path=(LAST, "response", "usage", "input_tokens_details"), value=...)
def test_whatever_a_value_of_an_event_is_the_answer_ends_with_done_or_failed(
    fake: Fake, path: tuple[Any, ...], value: object
) -> None:
    fake.body = in_events(*replaced(RESPONSE, path, value))
    check(drive(llm_openai.app, RESPONSES))


@anything
@pytest.mark.timeout(60)
@given(end=st.integers(0, len(in_events(*RESPONSE))), reset=st.booleans())
def test_wherever_the_bytes_end_only_a_whole_response_is_done(
    fake: Fake, end: int, reset: bool
) -> None:
    fake.body = in_events(*RESPONSE)[:end]
    fake.error = httpx2.ReadError(CANARY) if reset else None
    run = drive(llm_openai.app, RESPONSES)
    if check(run) == "done":
        assert not reset
        assert b"response.completed" in fake.body
        assert texts(run) == ["Tea", " is"]
    assert CANARY not in run.body.decode()


@pytest.mark.parametrize(
    "odd",
    [odd for odd in ODD if not odd.startswith(("an error", "a usage", "a re", "de"))],
)
def test_what_cannot_be_read_of_a_response_is_failed(
    fake: Fake, odd: str, caplog: pytest.LogCaptureFixture
) -> None:
    body, retryable = ODD[odd]
    fake.body = in_events(*RESPONSE[: at("output_text.delta") + 1]) + body
    run = drive(llm_openai.app, RESPONSES)
    assert check(run) == "failed"
    assert Failed.model_validate(last(run)[1]).retryable == retryable
    assert texts(run) == ["Tea"]
    assert CANARY not in run.body.decode() + caplog.text


@pytest.mark.parametrize(
    ("scenario", "status"),
    [("unauthorized", 503), ("rate-limited", 429), ("server-error", 502)],
)
def test_what_fails_before_a_response_has_a_status_of_its_own(
    play: Play, scenario: str, status: int
) -> None:
    assert play(scenario, RESPONSES).status == status


# Configuration


def test_without_a_key_or_a_provider_it_says_what_to_do(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    run = drive(llm_openai.app, ASK)
    sentence = "No model: run `cookbook llm` and type its exports."
    assert fake.asked == 0
    assert (run.status, json.loads(run.body)) == (503, {"detail": sentence})


def test_a_provider_of_your_own_needs_no_key(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    assert texts(play("ok")) == WORDS


def test_the_model_is_the_one_in_the_environment_or_the_one_named_in_the_recipe(
    provider: scripted.Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive(llm_openai.app, ASK)
    monkeypatch.setenv("OPENAI_MODEL", "usage")
    drive(llm_openai.app, ASK)
    models = [request.model for request in provider.requests()]
    assert models == [llm_openai.DEFAULT_MODEL, "usage"]


def test_the_sdk_knows_the_model_and_does_not_call_it_deprecated() -> None:
    known, _, deprecated = inspect.getsource(chat_model).partition("Deprecated")
    assert llm_openai.DEFAULT_MODEL in get_args(ChatModel)
    assert f'"{llm_openai.DEFAULT_MODEL}"' in known
    assert f'"{llm_openai.DEFAULT_MODEL}"' not in deprecated


def test_the_key_is_sent_to_the_provider(fake: Fake) -> None:
    drive(llm_openai.app, ASK)
    assert fake.key == f"Bearer {KEY}"


def test_the_page_names_the_model_and_the_silence() -> None:
    page = (catalog.ROOT / "docs/recipes/llm_openai.md").read_text("utf-8")
    assert f"`{llm_openai.DEFAULT_MODEL}`" in page
    assert f"within {llm_openai.SILENCE:g} seconds" in page


def test_the_key_is_in_no_response_and_in_no_log(
    play: Play, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack: The provider fails in five ways: the key is nowhere to be seen."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for scenario in ("ok", "unauthorized", "server-error", "reset", "truncated"):
        run = play(scenario)
        assert KEY not in run.body.decode() + str(run.headers)
    assert "Broke off: " in caplog.text
    assert KEY not in caplog.text


# The client leaves


@pytest.mark.usefixtures("noted_close")
@pytest.mark.parametrize("path", [ASK, RESPONSES])
@pytest.mark.parametrize("slow", [False, True], ids=["", "while it is slow"])
@pytest.mark.parametrize("by", ["the client leaves", "the server stops"])
def test_the_providers_stream_is_closed_before_the_request_is_over(
    play: Play, provider: scripted.Provider, by: str, slow: bool, path: str
) -> None:
    scenario, made, stall_at = ("at-once", 19, 4) if slow else ("gated", 3, None)
    provider.go(made)
    if by == "the client leaves":
        run = play(scenario, path, stall_at=stall_at, disconnect_at=4)
    else:
        run = play(scenario, path, stall_at=stall_at, cancel_at=4)
    assert "closed" in run.before(run.journal[-1])
    assert provider.wait(1).hung_up_after == made


@pytest.mark.usefixtures("noted_close")
def test_a_stalled_client_that_leaves_is_no_error(
    play: Play, provider: scripted.Provider
) -> None:
    provider.go(19)
    run = play("at-once", stall_at=4, disconnect_at=4)
    assert run.error is None
    assert "closed" in run.before("returned")


@pytest.mark.usefixtures("noted_close")
def test_a_block_inside_the_generator_does_not_close_it_for_a_slow_client(
    provider: scripted.Provider,
) -> None:
    app = FastAPI()

    @app.get("/answer", response_class=EventSourceResponse)
    async def generate() -> AsyncIterator[ServerSentEvent]:
        async with (
            openai.AsyncOpenAI() as client,
            await client.chat.completions.create(
                model="at-once", messages=[], stream=True
            ) as chunks,
        ):
            async for chunk in chunks:
                yield ServerSentEvent(data=chunk.id)

    provider.go(19)
    run = drive(app, ASK, stall_at=4, disconnect_at=4)
    assert "closed" not in run.before(run.journal[-1])


async def opened(receive: Receive) -> list[str]:
    """Open one answer; name the tasks that are left once it has begun, or failed."""
    async with llm_openai.lifespan(llm_openai.app) as state:
        request = Request({"type": "http", "state": state}, receive)
        chunks = cast(
            Any, llm_openai.open_chunks(llm_openai.create_chat, request, "Why?")
        )
        async with aclosing(chunks):
            with suppress(HTTPException):
                await anext(chunks)
            for _ in range(5):
                await asyncio.sleep(0)
            return [repr(task.get_coro()) for task in asyncio.all_tasks()]


def test_once_the_answer_has_begun_nobody_watches_for_the_client(fake: Fake) -> None:
    left = asyncio.run(opened(never))
    assert fake.asked == 1
    assert len(left) == 1, left


def test_once_the_client_has_left_nobody_asks_the_provider(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake, "respond", lambda _: never())
    left = asyncio.run(opened(gone))
    assert len(left) == 1, left


@pytest.mark.parametrize("wrap", [plain, behind_middleware])
def test_a_client_that_leaves_before_the_providers_head_is_noticed(
    silent: scripted.Provider,
    monkeypatch: pytest.MonkeyPatch,
    wrap: Callable[[FastAPI], FastAPI],
) -> None:
    silent.reset()
    for name, value in {**silent.env, "OPENAI_MODEL": "silent"}.items():
        monkeypatch.setenv(name, value)

    def asked() -> None:
        silent.wait(1, until=lambda request: request.scenario == "silent")

    run = drive(wrap(llm_openai.app), ASK, leave_after=asked)
    assert run.journal[0] == "disconnect"
    assert run.chunks == []
    assert silent.wait(1).hung_up_after == 0
    assert len(silent.requests()) == 1


def test_one_client_keeps_its_connection_for_the_next_answer(
    provider: scripted.Provider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with TestClient(llm_openai.app) as client:
        assert [client.get(ASK).status_code for _ in range(3)] == [200] * 3
    assert len(provider.requests()) == 3
    connects = [m for m in caplog.messages if m.startswith("connect_tcp.complete")]
    assert len(connects) == 1


# What it costs


def test_the_bench_on_the_page_has_met_its_targets() -> None:
    file = catalog.ROOT / "docs/benchmarks/llm_openai.json"
    targets = json.loads(file.read_text("utf-8"))["targets"]
    measured = [target["measured"] for target in targets]
    assert all(target["met"] for target in targets)
    added, p50, p99, chats, hangs_up = measured
    assert added < 1000
    assert p50 < p99 < 5
    assert chats > 30
    assert hangs_up < 10


# What a generator of clients can know


@pytest.mark.parametrize("path", ["/answer", "/responses"])
def test_openapi_describes_the_four_models(path: str) -> None:
    document = llm_openai.app.openapi()
    content = document["paths"][path]["get"]["responses"]["200"]["content"]
    (kind,) = content
    refs = [item["$ref"] for item in content[kind]["schema"]["anyOf"]]
    assert kind == "text/event-stream"
    names = ["Start", "Token", "Done", "Failed"]
    assert refs == [f"#/components/schemas/{name}" for name in names]
    schemas = document["components"]["schemas"]
    for name, model in zip(names, MODELS.values(), strict=True):
        assert set(schemas[name]["properties"]) == set(model.model_fields)


def test_without_that_line_openapi_has_none_of_them() -> None:
    app = FastAPI()
    app.get("/answer", response_class=EventSourceResponse)(llm_openai.stream_answer)
    assert not set(app.openapi()["components"]["schemas"]) & {"Start", "Token", "Done"}
