"""docs/recipes/llm_anthropic.md: every claim the page makes, proved on the recipe."""

import ast
import asyncio
import difflib
import json
import logging
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from typing import Any, cast, get_args

import anthropic
import httpx2
import pytest
from anthropic.resources.messages.messages import DEPRECATED_MODELS
from anthropic.types import Model, StopReason
from fastapi import FastAPI, HTTPException, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from fastapi.testclient import TestClient
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel
from starlette.types import Receive

from cookbook import catalog
from cookbook.llm import scripted
from cookbook.llm.formats import answer as script
from cookbook.llm.formats import messages
from recipes import llm_anthropic, llm_openai
from recipes.llm_anthropic import Done, Failed, Start, Thinking, Token, Tool, Usage
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
from tests.kit.untrusted import CANARY, VALUES, Fake, below, paths, replaced, tries

MODELS: dict[str, type[BaseModel]] = {
    "start": Start,
    "thinking": Thinking,
    "token": Token,
    "tool": Tool,
    "done": Done,
    "failed": Failed,
}
KEY = "sk-canary-4711"
BROKE_OFF = "The answer broke off."


@pytest.fixture
def play(provider: scripted.Provider, monkeypatch: pytest.MonkeyPatch) -> Play:
    return Play(llm_anthropic.app, provider, monkeypatch, "ANTHROPIC_MODEL")


def said_as(run: Run, name: str) -> list[Any]:
    """Give the data of all events of one name."""
    return [json.loads(e.data) for e in events(run) if e.event == name]


# The events


def test_an_answer_is_a_start_its_tokens_and_done(play: Play) -> None:
    run = play("ok")
    names = [event.event for event in events(run)]
    assert names == ["start", *["token"] * len(WORDS), "done"]
    assert texts(run) == WORDS


def test_each_event_is_one_of_the_models(play: Play) -> None:
    for scenario in ("ok", "truncated", "thinking", "tool-arguments"):
        for event in events(play(scenario)):
            model = MODELS[event.event].model_validate_json(event.data, strict=True)
            assert json.loads(event.data) == model.model_dump()


def test_these_are_the_bytes_of_the_start_and_of_a_token(play: Play) -> None:
    assert play("ok").chunks[:2] == [
        b'event: start\ndata: {"id":"msg_1","model":"ok"}\n\n',
        b'event: token\ndata: {"text":"Tea"}\n\n',
    ]


def test_done_has_the_reason_and_the_bill(play: Play) -> None:
    name, data = last(play("usage"))
    done = Done.model_validate(data)
    assert (name, done.finish_reason) == ("done", "stop")
    assert done.usage == Usage(
        prompt_tokens=2000,
        completion_tokens=5,
        total_tokens=2005,
        prompt_tokens_details={"cached_tokens": 1536, "cache_write_tokens": 0},
    )


def test_openai_and_anthropic_are_told_in_the_same_events(
    play: Play, provider: scripted.Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**provider.env, "OPENAI_MODEL": "usage"}.items():
        monkeypatch.setenv(name, value)
    *before, done = events(play("usage"))
    for path in ("/answer", "/responses"):
        run = drive(llm_openai.app, f"{path}?prompt=x")
        *also, other = events(run)
        assert [e.data for e in before[1:]] == [e.data for e in also[1:]]
        assert [e.event for e in before] == [e.event for e in also]
        same, data = json.loads(done.data), json.loads(other.data)
        assert (same["finish_reason"], done.event) == (data["finish_reason"], "done")
        for count in ("prompt_tokens", "completion_tokens", "total_tokens"):
            assert same["usage"][count] == data["usage"][count]
        cached = "prompt_tokens_details", "cached_tokens"
        assert same["usage"][cached[0]][cached[1]] == 1536
        assert data["usage"][cached[0]][cached[1]] == 1536


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


@pytest.mark.parametrize(
    "scenario", ["newlines", "framing", "hostile-markdown", "emoji", "huge-token"]
)
def test_any_token_arrives_as_it_was_and_forges_nothing(
    play: Play, scenario: str
) -> None:
    """Attack: The model writes line ends and SSE fields: it forges no event."""
    run = play(scenario)
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


def test_a_ping_makes_no_event(play: Play) -> None:
    run = play("null-content")
    assert texts(run) == ["Tea", " is", " hot", "."]
    assert len(events(run)) == 6


def test_what_the_model_thinks_is_kept_apart_from_its_answer(play: Play) -> None:
    run = play("thinking")
    thoughts = [thought["text"] for thought in said_as(run, "thinking")]
    assert thoughts == ["The", " water", " boils", ";", " so", "…"]
    assert texts(run) == ["It", " is", " hot", "."]
    names = [event.event for event in events(run)]
    assert names == ["start", *["thinking"] * 6, *["token"] * 4, "done"]
    # The signature of the thoughts is for the provider.
    assert messages.SIGNATURE not in run.body.decode()


def test_a_tool_is_one_event_whose_arguments_are_whole(play: Play) -> None:
    run = play("tool-arguments")
    assert [(tool["name"], tool["arguments"]) for tool in said_as(run, "tool")] == [
        ("get_order", {"order_id": 42, "note": 'a "b" c'}),
        ("get_weather", {"city": "Kyōto"}),
    ]
    assert last(run)[1] == {
        "finish_reason": "tool_calls",
        "usage": Usage(
            prompt_tokens=12,
            completion_tokens=14,
            total_tokens=26,
            prompt_tokens_details={"cached_tokens": 0, "cache_write_tokens": 0},
        ).model_dump(),
    }


def test_a_refusal_is_complete_and_has_no_text(play: Play) -> None:
    run = play("refusal")
    assert texts(run) == []
    name, data = last(run)
    assert (name, Done.model_validate(data).finish_reason) == ("done", "content_filter")


# What goes wrong

CUT = ("truncated", "truncated-at-the-end", "half-event")
BROKEN = ("overloaded-midstream", "reset", "stall-before-first", "stall-after-first")


@pytest.mark.parametrize("scenario", CUT + BROKEN)
def test_an_answer_that_broke_off_ends_with_failed_and_never_with_done(
    play: Play, scenario: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if scenario.startswith("stall"):  # The others end by themselves.
        monkeypatch.setattr(llm_anthropic, "SILENCE", 2.0)
    run = play(scenario)
    kind = "truncated" if scenario in CUT else "provider"
    if scenario == "overloaded-midstream":
        kind = "overloaded"
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
    fake.body = framed(*CHUNKS[:-1], messages.error(500, "x"))
    name, data = last(drive(llm_anthropic.app, ASK))
    assert (name, Failed.model_validate(data).retryable) == ("failed", True)


# A provider is untrusted input

# One good answer: a thought, a token and a tool.
TOKENS = [
    script.Token("thinking", "Hm"),
    script.Token("text", "Tea"),
    script.Token("tool", '{"id": '),
    script.Token("tool", "42}"),
]
CHUNKS: list[dict[str, Any]] = [
    event.data
    for event in messages.stream(script.Answer(1, "ok", TOKENS, ["get_order"]))
    if isinstance(event.data, dict)
]


def place(kind: str, number: int = 0) -> int:
    """Find the chunk of a type, or of a type of delta, by its number."""
    kinds = [(chunk["type"], chunk.get("delta", {}).get("type")) for chunk in CHUNKS]
    return [index for index, both in enumerate(kinds) if kind in both][number]


TEXT_AT = place("text_delta")
END_AT = place("message_delta")
TOOL_AT = place("content_block_start", 2)


def framed(*chunks: object) -> bytes:
    """Write chunks as the provider does; one without a type is sent as text is."""
    body = b""
    for chunk in chunks:
        kind = chunk.get("type") if isinstance(chunk, dict) else None
        name = kind if isinstance(kind, str) and kind.isidentifier() else "message"
        body += b"event: %s\ndata: %s\n\n" % (name.encode(), json.dumps(chunk).encode())
    return body


GOOD = framed(*CHUNKS)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Put a fake network below the SDK; at first it gives the good answer."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    return below(anthropic, "AsyncAnthropic", monkeypatch, GOOD)


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
        assert failed.type in {"truncated", "provider", "overloaded"}
        assert failed.message == BROKE_OFF
    return name


PATHS = [path for path in paths(CHUNKS) if len(path) > 1]
anything = tries(150)


@anything
@pytest.mark.timeout(60)
@given(path=st.sampled_from(PATHS), value=VALUES | st.just(...))
@example(path=(TEXT_AT, "delta", "text"), value="half \ud83d")
@example(path=(END_AT, "delta", "stop_reason"), value=[5])
@example(path=(END_AT, "usage", "output_tokens"), value="many")
@example(path=(END_AT, "usage", "output_tokens"), value=...)
@example(path=(0, "message", "usage"), value=None)
@example(path=(0, "message", "usage", "input_tokens"), value=[1])
@example(path=(TOOL_AT, "content_block", "name"), value="half \ud83d")
@example(path=(TOOL_AT, "index"), value=[7])
@example(path=(place("input_json_delta"), "delta", "partial_json"), value='{"\\ud83d')
@example(path=(place("input_json_delta"), "index"), value=7)
def test_whatever_a_value_of_a_chunk_is_the_answer_ends_with_done_or_failed(
    fake: Fake, path: tuple[Any, ...], value: object
) -> None:
    fake.body = framed(*replaced(CHUNKS, path, value))
    check(drive(llm_anthropic.app, ASK))


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
    fake.body = GOOD[:start] + new + GOOD[start + length :]
    fake.cuts = cuts
    check(drive(llm_anthropic.app, ASK))


@anything
@pytest.mark.timeout(60)
@given(end=st.integers(0, len(GOOD)), reset=st.booleans())
def test_wherever_the_bytes_end_only_a_whole_answer_is_done(
    fake: Fake, end: int, reset: bool
) -> None:
    fake.body = GOOD[:end]
    fake.error = httpx2.ReadError(CANARY) if reset else None
    run = drive(llm_anthropic.app, ASK)
    if check(run) == "done":
        assert not reset
        assert b'"stop_reason": "tool_use"' in fake.body
        assert texts(run) == ["Tea"]
        assert [tool["arguments"] for tool in said_as(run, "tool")] == [{"id": 42}]
    assert CANARY not in run.body.decode()


def odd_chunk(path: tuple[Any, ...], value: object) -> bytes:
    """Write one of the chunks with another value in it."""
    return framed(replaced(CHUNKS, path, value)[path[0]])


def raw(data: bytes) -> bytes:
    return b"event: message_start\ndata: " + data + b"\n\n"


ODD: dict[str, tuple[bytes, bool]] = {
    "an error with words": (
        framed({"type": "error", "error": {"message": CANARY, "type": CANARY}}),
        True,
    ),
    "an error without": (framed({"type": "error", "error": CANARY}), True),
    "an error that is no object": (b"event: error\ndata: " + CANARY.encode(), True),
    "nothing": (raw(b"null"), False),
    "no object": (raw(b'"' + CANARY.encode() + b'"'), False),
    "no JSON": (raw(CANARY.encode()), False),
    "no UTF-8": (raw(b"\xff" + CANARY.encode()), False),
    "too deep": (raw(b"[" * 100_000), False),
    "a reason of another kind": (
        odd_chunk((END_AT, "delta", "stop_reason"), {"x": CANARY}),
        False,
    ),
    "a usage of another kind": (
        odd_chunk((END_AT, "usage", "output_tokens"), CANARY),
        False,
    ),
    "a cache of another kind": (
        odd_chunk((0, "message", "usage", "cache_read_input_tokens"), f"{CANARY} x")
        + framed(CHUNKS[END_AT]),
        False,
    ),
    "arguments for no tool": (
        odd_chunk((place("input_json_delta"), "index"), CANARY),
        False,
    ),
    "half a character": (odd_chunk((TEXT_AT, "delta", "text"), "\ud83d"), False),
}


@pytest.mark.parametrize("odd", ODD)
def test_what_cannot_be_read_is_failed_and_its_words_go_nowhere(
    fake: Fake, odd: str, caplog: pytest.LogCaptureFixture
) -> None:
    body, retryable = ODD[odd]
    fake.body = (
        framed(*CHUNKS[: TEXT_AT + 1])
        + body
        + b"\n\n"
        + framed(*CHUNKS[TEXT_AT + 1 : END_AT])
    )
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        run = drive(llm_anthropic.app, ASK)
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
    assert "recipes/llm_anthropic.py" in caplog.text
    assert CANARY not in caplog.text


@pytest.mark.parametrize(
    ("length", "end"), [(1_000_000, "done"), (1_000_001, "failed")]
)
def test_a_token_has_at_most_a_million_characters(
    fake: Fake, length: int, end: str
) -> None:
    big = replaced(CHUNKS, (TEXT_AT, "delta", "text"), "x" * length)
    fake.body = framed(*big)
    assert check(drive(llm_anthropic.app, ASK)) == end


def with_shards(*shards: str, reason: str = "tool_use") -> bytes:
    """Write the answer with other shards of its tool's arguments."""
    first = place("input_json_delta")
    pieces = [
        replaced(CHUNKS[first], ("delta", "partial_json"), shard) for shard in shards
    ]
    end = replaced(CHUNKS[END_AT], ("delta", "stop_reason"), reason)
    return framed(*CHUNKS[:first], *pieces, CHUNKS[END_AT - 1], end)


@pytest.mark.parametrize(("length", "end"), [(100_000, "done"), (100_001, "failed")])
def test_the_arguments_of_a_tool_have_at_most_a_hundred_thousand_characters(
    fake: Fake, length: int, end: str
) -> None:
    text = "x" * (length - len('{"x":""}'))
    fake.body = with_shards('{"x":"', text, '"}')
    assert check(drive(llm_anthropic.app, ASK)) == end


@pytest.mark.parametrize(
    ("shards", "arguments"),
    [
        ((), {}),
        (("",), {}),
        (('{"a": "\\ud83d', '\\udc00"}'), {"a": "\U0001f400"}),
        (('{"a": NaN}',), {"a": None}),
        (('{"a": ' + "[" * 150 + "]" * 150 + "}",), ...),
    ],
)
def test_arguments_are_parsed_when_all_shards_have_come(
    fake: Fake, shards: tuple[str, ...], arguments: object
) -> None:
    fake.body = with_shards(*shards)
    run = drive(llm_anthropic.app, ASK)
    assert check(run) == "done"
    (tool,) = said_as(run, "tool")
    assert arguments in (..., tool["arguments"])


@pytest.mark.parametrize(
    "shards",
    [
        ('{"a": 4',),
        ("[1]",),
        ("4",),
        ('{"a": "\\ud83d"}',),
        ('{"\\ud83d": 1}',),
        ('{"a": ' + "[" * 100 + "9" * 5000,),
        ('{"a": ' + "[" * 30_000 + "]" * 30_000 + "}",),
        ('{"a": ' + "9" * 5000 + "}",),
        (CANARY,),
    ],
)
def test_arguments_that_are_no_whole_object_are_failed(
    fake: Fake, shards: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    fake.body = with_shards(*shards)
    run = drive(llm_anthropic.app, ASK)
    assert check(run) == "failed"
    assert said_as(run, "tool") == []
    assert CANARY not in run.body.decode() + caplog.text


def test_no_tool_is_told_if_the_arguments_of_another_one_are_broken(fake: Fake) -> None:
    other = replaced(CHUNKS[TOOL_AT], ("index",), 7)
    shard = replaced(CHUNKS[place("input_json_delta")], ("index",), 7)
    fake.body = framed(*CHUNKS[:END_AT], other, shard, CHUNKS[END_AT])
    run = drive(llm_anthropic.app, ASK)
    assert (check(run), said_as(run, "tool")) == ("failed", [])


def test_a_call_that_the_limit_has_cut_is_not_told(fake: Fake) -> None:
    fake.body = with_shards('{"id": 4', reason="max_tokens")
    run = drive(llm_anthropic.app, ASK)
    assert said_as(run, "tool") == []
    assert Done.model_validate(last(run)[1]).finish_reason == "length"


REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop_sequence",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
    "pause_turn": "pause_turn",
}


@pytest.mark.parametrize(("theirs", "ours"), REASONS.items())
def test_the_reason_is_told_in_openais_word_if_it_has_one(
    fake: Fake, theirs: str, ours: str
) -> None:
    assert theirs in get_args(StopReason)
    fake.body = with_shards('{"id": 42}', reason=theirs)
    done = Done.model_validate(last(drive(llm_anthropic.app, ASK))[1])
    assert done.finish_reason == ours


def test_the_reasons_are_those_that_the_sdk_knows() -> None:
    assert set(REASONS) == set(get_args(StopReason))


def counted(fake: Fake, first: dict[str, Any], then: dict[str, Any]) -> Usage | None:
    """Give the bill for what the first and the last chunk say."""
    start = replaced(CHUNKS[0], ("message", "usage"), first)
    end = replaced(CHUNKS[END_AT], ("usage",), then)
    end = replaced(end, ("delta", "stop_reason"), "end_turn")
    fake.body = framed(start, end)
    run = drive(llm_anthropic.app, ASK)
    assert check(run) == "done"
    return Done.model_validate(last(run)[1]).usage


def test_the_usage_comes_from_two_events(fake: Fake) -> None:
    first = {
        "input_tokens": 10,
        "cache_read_input_tokens": 200,
        "cache_creation_input_tokens": 3000,
        "output_tokens": 1,
    }
    assert counted(fake, first, {"output_tokens": 70}) == Usage(
        completion_tokens=70,
        prompt_tokens=3210,
        total_tokens=3280,
        prompt_tokens_details={"cached_tokens": 200, "cache_write_tokens": 3000},
    )


def test_the_last_count_holds_and_a_null_says_nothing(fake: Fake) -> None:
    first = {"input_tokens": 10, "cache_read_input_tokens": 5, "output_tokens": 1}
    last = {"input_tokens": 40, "cache_read_input_tokens": None, "output_tokens": 7}
    assert counted(fake, first, last) == Usage(
        completion_tokens=7,
        prompt_tokens=45,
        total_tokens=52,
        prompt_tokens_details={"cached_tokens": 5, "cache_write_tokens": 0},
    )


def test_a_null_among_the_first_counts_says_nothing_either(fake: Fake) -> None:
    first = {
        "input_tokens": 10,
        "cache_read_input_tokens": None,
        "cache_creation_input_tokens": None,
        "output_tokens": 1,
    }
    assert counted(fake, first, {"output_tokens": 7}) == Usage(
        completion_tokens=7,
        prompt_tokens=10,
        total_tokens=17,
        prompt_tokens_details={"cached_tokens": 0, "cache_write_tokens": 0},
    )


@pytest.mark.parametrize(
    ("tokens", "end"), [(1_000_000_000, "done"), (1_000_000_001, "failed")]
)
def test_a_count_is_at_most_a_billion(fake: Fake, tokens: int, end: str) -> None:
    nothing = {"input_tokens": 0, "output_tokens": 0}
    start = replaced(CHUNKS[0], ("message", "usage"), nothing)
    over = replaced(CHUNKS[END_AT], ("usage",), {"output_tokens": tokens})
    fake.body = framed(start, replaced(over, ("delta", "stop_reason"), "end_turn"))
    assert check(drive(llm_anthropic.app, ASK)) == end


def test_an_answer_without_its_first_event_is_complete_and_has_no_bill(
    fake: Fake,
) -> None:
    # The small model leaves it out if its first token is a part of a character.
    fake.body = framed(*CHUNKS[1:])
    run = drive(llm_anthropic.app, ASK)
    assert (check(run), texts(run)) == ("done", ["Tea"])
    assert Done.model_validate(last(run)[1]).usage is None


def test_it_asks_for_summarized_thoughts_one_tool_and_a_limit(fake: Fake) -> None:
    drive(llm_anthropic.app, ASK)
    tool = fake.question.pop("tools")[0]
    assert tool["name"] == "get_order"
    assert tool["input_schema"]["properties"] == {"order_id": {"type": "integer"}}
    assert fake.question == {
        "model": llm_anthropic.DEFAULT_MODEL,
        "messages": [{"role": "user", "content": "Why is tea hot"}],
        "max_tokens": 2048,
        "thinking": {"type": "adaptive", "display": "summarized"},
        "stream": True,
    }


def test_events_and_blocks_that_nobody_knows_are_left_out(fake: Fake) -> None:
    news = [
        {"type": "weather_report", "text": CANARY},
        {"type": "content_block_start", "index": 7, "content_block": {"type": CANARY}},
        {"type": "content_block_delta", "index": 7, "delta": {"type": CANARY}},
        {"type": "ping"},
    ]
    fake.body = framed(CHUNKS[0], *news, *CHUNKS[1:])
    run = drive(llm_anthropic.app, ASK)
    assert check(run) == "done"
    assert texts(run) == ["Tea"]
    assert CANARY not in run.body.decode()


def test_fields_that_nobody_knows_are_not_passed_on(fake: Fake) -> None:
    chunks = replaced(CHUNKS, (0, "message", "usage", "secret"), CANARY)
    chunks = replaced(chunks, (TOOL_AT, "content_block", "secret"), CANARY)
    fake.body = framed(*replaced(chunks, (END_AT, "usage", "secret"), CANARY))
    run = drive(llm_anthropic.app, ASK)
    assert check(run) == "done"
    assert CANARY not in run.body.decode()


# Refused before the first byte


@pytest.mark.parametrize(
    ("scenario", "status", "sentence"),
    [
        ("unauthorized", 503, "The provider does not accept the key."),
        ("rate-limited", 429, "The model is busy."),
        ("server-error", 502, "The provider did not answer."),
        ("overloaded", 429, "The model is busy."),
    ],
)
def test_what_fails_before_the_first_byte_has_a_status_of_its_own(
    play: Play, provider: scripted.Provider, scenario: str, status: int, sentence: str
) -> None:
    run = play(scenario)
    assert (run.status, json.loads(run.body)) == (status, {"detail": sentence})
    # The SDK would ask again by itself; here that is left to the client.
    assert len(provider.requests()) == 1


STATUSES = {401: 503, 403: 503, 429: 429, 529: 429} | dict.fromkeys(
    (302, 304, 400, 404, 408, 409, 418, 422, 500, 502, 503, 504), 502
)


@pytest.mark.parametrize(("theirs", "ours"), STATUSES.items())
def test_every_refusal_is_told_in_words_of_our_own(
    fake: Fake, theirs: int, ours: int, caplog: pytest.LogCaptureFixture
) -> None:
    fake.status = theirs
    fake.body = json.dumps({"error": {"message": CANARY}}).encode()
    run = drive(llm_anthropic.app, ASK)
    assert (run.status, fake.asked) == (ours, 1)
    assert CANARY not in run.body.decode() + str(run.headers) + caplog.text
    assert ("No answer: <class 'anthropic." in caplog.text) == (ours == 502)


def test_a_refusal_that_breaks_off_is_a_502_too(
    fake: Fake, caplog: pytest.LogCaptureFixture
) -> None:
    fake.status = 400
    fake.error = httpx2.ReadError(CANARY)
    run = drive(llm_anthropic.app, ASK)
    assert (run.status, run.error) == (502, None)
    assert CANARY not in run.body.decode() + caplog.text


@pytest.mark.parametrize("theirs", ["7", "86400", "-1", "soon", None])
def test_who_is_told_429_is_told_to_wait_a_minute_whatever_the_provider_says(
    fake: Fake, theirs: str | None
) -> None:
    fake.status = 429
    fake.headers = {} if theirs is None else {"Retry-After": theirs}
    run = drive(llm_anthropic.app, ASK)
    assert (run.status, run.headers["retry-after"]) == (429, "60")
    assert fake.asked == 1


def test_a_client_waits_at_most_the_silence_for_a_status(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llm_anthropic, "SILENCE", 0.05)

    async def drip(_: httpx2.Request) -> httpx2.Response:
        """Never be silent for long enough for the SDK's own limit, nor answer."""
        fake.asked += 1
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(fake, "respond", drip)
    run = drive(llm_anthropic.app, ASK)
    sentence = "The provider did not answer."
    assert (run.status, json.loads(run.body)) == (502, {"detail": sentence})
    assert fake.asked == 1


def test_the_sdk_alone_would_ask_three_times_and_wait_up_to_two_minutes_between(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = list[float]()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("anthropic._base_client.anyio.sleep", sleep)
    fake.status = 429
    fake.headers = {"Retry-After": "120"}

    async def ask() -> None:
        async with anthropic.AsyncAnthropic() as client:
            await client.messages.create(
                model="any", max_tokens=9, messages=[], stream=True
            )

    with pytest.raises(anthropic.RateLimitError):
        asyncio.run(ask())
    assert (fake.asked, waits) == (3, [120, 120])


@pytest.mark.parametrize("prompt", ["", "x" * 2001])
def test_a_bad_prompt_is_refused_and_costs_nothing(
    prompt: str, provider: scripted.Provider
) -> None:
    with TestClient(llm_anthropic.app) as client:
        assert client.get("/answer", params={"prompt": prompt}).status_code == 422
        assert client.get("/answer").status_code == 422
        assert provider.requests() == []
        assert client.get("/answer", params={"prompt": "?"}).status_code == 200
        assert client.get("/answer", params={"prompt": "x" * 2000}).status_code == 200
    assert len(provider.requests()) == 2


# Configuration


def test_without_a_key_or_a_provider_it_says_what_to_do(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    run = drive(llm_anthropic.app, ASK)
    sentence = "No model: run `cookbook llm` and type its exports."
    assert fake.asked == 0
    assert (run.status, json.loads(run.body)) == (503, {"detail": sentence})


def test_a_provider_of_your_own_needs_no_key(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    assert texts(play("ok")) == WORDS


def test_the_model_is_the_one_in_the_environment_or_the_one_named_in_the_recipe(
    provider: scripted.Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive(llm_anthropic.app, ASK)
    monkeypatch.setenv("ANTHROPIC_MODEL", "usage")
    drive(llm_anthropic.app, ASK)
    models = [request.model for request in provider.requests()]
    assert models == [llm_anthropic.DEFAULT_MODEL, "usage"]


def test_the_sdk_knows_the_model_and_does_not_call_it_deprecated() -> None:
    names = get_args(get_args(Model)[0])
    assert llm_anthropic.DEFAULT_MODEL in names
    assert llm_anthropic.DEFAULT_MODEL not in DEPRECATED_MODELS


def test_the_key_is_sent_to_the_provider(fake: Fake) -> None:
    drive(llm_anthropic.app, ASK)
    assert fake.key == f"Bearer {KEY}"


def test_the_page_names_the_model_and_the_silence() -> None:
    page = (catalog.ROOT / "docs/recipes/llm_anthropic.md").read_text("utf-8")
    assert f"`{llm_anthropic.DEFAULT_MODEL}`" in page
    assert f"within {llm_anthropic.SILENCE:g} seconds" in page


def test_the_key_is_in_no_response_and_in_no_log(
    play: Play, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack: The provider fails in five ways: the key is nowhere to be seen."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    for scenario in ("ok", "unauthorized", "server-error", "reset", "truncated"):
        run = play(scenario)
        assert KEY not in run.body.decode() + str(run.headers)
    assert "Broke off: " in caplog.text
    assert KEY not in caplog.text


# The client leaves


@pytest.mark.usefixtures("noted_close")
@pytest.mark.parametrize("slow", [False, True], ids=["", "while it is slow"])
@pytest.mark.parametrize("by", ["the client leaves", "the server stops"])
def test_the_providers_stream_is_closed_before_the_request_is_over(
    play: Play, provider: scripted.Provider, by: str, slow: bool
) -> None:
    scenario, made, stall_at = ("at-once", 19, 4) if slow else ("gated", 3, None)
    provider.go(made)
    if by == "the client leaves":
        run = play(scenario, stall_at=stall_at, disconnect_at=4)
    else:
        run = play(scenario, stall_at=stall_at, cancel_at=4)
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
            anthropic.AsyncAnthropic() as client,
            await client.messages.create(
                model="at-once", max_tokens=99, messages=[], stream=True
            ) as chunks,
        ):
            async for chunk in chunks:
                yield ServerSentEvent(data=chunk.type)

    provider.go(19)
    run = drive(app, ASK, stall_at=4, disconnect_at=4)
    assert "closed" not in run.before(run.journal[-1])


async def opened(receive: Receive) -> list[str]:
    """Open one answer; name the tasks that are left once it has begun, or failed."""
    async with llm_anthropic.lifespan(llm_anthropic.app) as state:
        request = Request({"type": "http", "state": state}, receive)
        chunks = cast(Any, llm_anthropic.open_chunks(request, "Why?"))
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
    for name, value in {**silent.env, "ANTHROPIC_MODEL": "silent"}.items():
        monkeypatch.setenv(name, value)

    def asked() -> None:
        silent.wait(1, until=lambda request: request.scenario == "silent")

    run = drive(wrap(llm_anthropic.app), ASK, leave_after=asked)
    assert run.journal[0] == "disconnect"
    assert run.chunks == []
    assert silent.wait(1).hung_up_after == 0
    assert len(silent.requests()) == 1


def test_one_client_keeps_its_connection_for_the_next_answer(
    provider: scripted.Provider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with TestClient(llm_anthropic.app) as client:
        assert [client.get(ASK).status_code for _ in range(3)] == [200] * 3
    assert len(provider.requests()) == 3
    connects = [m for m in caplog.messages if m.startswith("connect_tcp.complete")]
    assert len(connects) == 1


# The sibling

VENDORS = {"OpenAI": "Anthropic", "openai": "anthropic", "OPENAI": "ANTHROPIC"}


def definitions(slug: str) -> dict[str, list[str]]:
    """Give the lines of code of each definition, in their order, by its name."""
    text = (catalog.ROOT / f"recipes/{slug}.py").read_text("utf-8")
    for theirs, ours in VENDORS.items():
        text = text.replace(theirs, ours)
    found = {}
    for node in ast.parse(text).body:
        for named in ast.walk(node):
            name = getattr(named, "name", None) or getattr(named, "id", None)
            if name:
                source = ast.get_source_segment(text, node) or ""
                found[name] = [line for line in source.splitlines() if line.strip()]
                break
    return found


def test_the_two_siblings_have_the_same_steps_in_the_same_order() -> None:
    here, there = definitions("llm_anthropic"), definitions("llm_openai")
    steps = ["Start", "Token", "Done", "Failed", "ask", "client_leaves", "open_chunks"]
    steps += ["bill", "failed", "answer", "lifespan", "app", "EVENTS", "stream_answer"]
    assert [name for name in here if name in steps] == steps
    steps.remove("bill")  # Only the Responses API has other names for the counts.
    assert [name for name in there if name in steps] == steps


def test_three_lines_of_four_that_the_siblings_share_are_the_same() -> None:
    here, there = definitions("llm_anthropic"), definitions("llm_openai")
    apart = {"ask", "answer", "bill", "REASONS"}  # These speak the provider's language.
    shared = [name for name in here if name in there and name not in apart]
    lines = [line for name in shared for line in here[name]]
    also = [line for name in shared for line in there[name]]
    matcher = difflib.SequenceMatcher(None, lines, also, autojunk=False)
    assert len(lines) > 70
    assert matcher.ratio() > 0.75


# What a generator of clients can know


def test_openapi_describes_the_models() -> None:
    document = llm_anthropic.app.openapi()
    content = document["paths"]["/answer"]["get"]["responses"]["200"]["content"]
    (kind,) = content
    refs = [item["$ref"] for item in content[kind]["schema"]["anyOf"]]
    assert kind == "text/event-stream"
    names = ["Start", "Thinking", "Token", "Tool", "Done", "Failed"]
    assert refs == [f"#/components/schemas/{name}" for name in names]
    schemas = document["components"]["schemas"]
    for name, model in zip(names, MODELS.values(), strict=True):
        assert set(schemas[name]["properties"]) == set(model.model_fields)


def test_without_that_line_openapi_has_none_of_them() -> None:
    app = FastAPI()
    app.get("/answer", response_class=EventSourceResponse)(llm_anthropic.stream_answer)
    assert not set(app.openapi()["components"]["schemas"]) & {"Start", "Token", "Done"}
