"""The scripted provider, used as the recipes use it and byte by byte."""

import asyncio
import http.client
import json
import re
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from anthropic import AsyncAnthropic
from anthropic.types import MessageParam, ThinkingBlock, ToolUseBlock
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from cookbook.llm import record as kept_record
from cookbook.llm import scripted
from cookbook.llm.scripted import Provider, Request
from tests.kit import servers
from tests.kit.servers import Answer

ASK: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Why?"}]
ASK_CLAUDE: list[MessageParam] = [{"role": "user", "content": "Why?"}]
CANARY = "sk-canary-0123456789"
SHORT = httpx2.Timeout(scripted.WAIT, read=1.0)  # seconds
SCENARIOS = scripted.load()
# Scenarios whose text, and nothing else, comes to the end.
TEXTS = [
    *("ok", "usage", "newlines", "framing", "hostile-markdown", "emoji", "huge-token"),
    *("null-content", "thinking", "long", "crlf", "crlf-split", "utf8-split"),
    *("joined-events", "slow-body"),
]

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Run the asynchronous tests on asyncio alone."""
    return "asyncio"


@pytest.fixture(scope="module")
def running() -> Iterator[Provider]:
    with scripted.running(pace=0) as provider:
        yield provider


@pytest.fixture
def provider(running: Provider) -> Provider:
    """Give every test a provider that has seen nothing."""
    running.reset()
    return running


def gpt(provider: Provider, **options: Any) -> AsyncOpenAI:  # noqa: ANN401
    more = {"max_retries": 0, "base_url": f"{provider.url}/v1", **options}
    return AsyncOpenAI(api_key=CANARY, **more)


def claude(provider: Provider, **options: Any) -> AsyncAnthropic:  # noqa: ANN401
    more = {"max_retries": 0, "base_url": provider.url, **options}
    return AsyncAnthropic(api_key=CANARY, **more)


async def chunks(
    client: AsyncOpenAI, model: str, got: list[ChatCompletionChunk] | None = None
) -> list[ChatCompletionChunk]:
    """Collect a stream of chat completions, in `got` also if it breaks."""
    got = [] if got is None else got
    async with await client.chat.completions.create(
        model=model, messages=ASK, stream=True, stream_options={"include_usage": True}
    ) as stream:
        async for chunk in stream:
            got.append(chunk)  # A comprehension would lose what came before an error.
    return got


def text(got: list[ChatCompletionChunk]) -> list[str]:
    """Give the tokens of text in chunks."""
    deltas = [choice.delta.content for chunk in got for choice in chunk.choices]
    return [delta for delta in deltas if delta]


def said(name: str) -> list[str]:
    """Give the tokens of text in a scenario."""
    return [t.text for t in SCENARIOS[name].said() if t.kind == "text"]


@contextmanager
def raw(provider: Provider, model: str, *, stream: bool = True) -> Iterator[Answer]:
    """Ask with a socket for a chat completion, and read the head."""
    body = json.dumps({"model": model, "messages": ASK, "stream": stream})
    port = int(provider.url.rpartition(":")[2])
    with socket.create_connection((scripted.HOST, port), scripted.WAIT) as connection:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {provider.url[7:]}\r\n"
        head += f"Content-Length: {len(body)}\r\n\r\n"
        connection.sendall((head + body).encode())
        answer = Answer(connection)
        try:
            yield answer
        finally:
            answer.close()


def call(
    provider: Provider, method: str, path: str, body: str = "", **headers: str
) -> tuple[int, Any]:
    """Send one request without an SDK; give the status and what the JSON says."""
    client = http.client.HTTPConnection(provider.url[7:], timeout=scripted.WAIT)
    client.request(method, path, body, headers)
    response = client.getresponse()
    try:
        return response.status, json.loads(response.read())
    finally:
        client.close()


def has_made(tokens: int) -> Any:  # noqa: ANN401 - it is a condition for `wait`
    def made(request: Request) -> bool:
        return request.tokens_made == tokens

    return made


# Answers


@pytest.mark.parametrize("name", TEXTS)
async def test_openai_chat_gets_exactly_the_tokens(
    provider: Provider, name: str
) -> None:
    async with gpt(provider) as client:
        got = await chunks(client, name)
    assert text(got) == said(name)
    assert [c.finish_reason for x in got for c in x.choices][-1] == "stop"


@pytest.mark.parametrize("name", TEXTS)
async def test_openai_responses_gets_exactly_the_tokens(
    provider: Provider, name: str
) -> None:
    async with (
        gpt(provider) as client,
        client.responses.stream(model=name, input="Why?") as stream,
    ):
        events = [event async for event in stream]
        final = await stream.get_final_response()
    deltas = [e.delta for e in events if e.type == "response.output_text.delta"]
    assert deltas == said(name)
    assert (final.output_text, final.status) == ("".join(deltas), "completed")


@pytest.mark.parametrize("name", TEXTS)
async def test_anthropic_gets_exactly_the_tokens(provider: Provider, name: str) -> None:
    async with (
        claude(provider) as client,
        client.messages.stream(
            model=name, messages=ASK_CLAUDE, max_tokens=1000
        ) as stream,
    ):
        assert [token async for token in stream.text_stream] == said(name)
        assert (await stream.get_final_message()).stop_reason == "end_turn"


async def test_the_first_chunk_has_the_role_and_the_last_choice_no_content(
    provider: Provider,
) -> None:
    async with gpt(provider) as client:
        first, *_, last, _usage = await chunks(client, "ok")
    assert (first.choices[0].delta.role, first.choices[0].delta.content) == (
        "assistant",
        "",
    )
    assert last.choices[0].delta.content is None


async def test_chunks_of_null_content_come_between_the_tokens(
    provider: Provider,
) -> None:
    async with gpt(provider) as client:
        got = await chunks(client, "null-content")
    contents = [c.choices[0].delta.content for c in got if c.choices]
    assert contents == ["", "Tea", None, " is", None, " hot", None, ".", None, None]


async def test_the_usage_chunk_comes_last_and_has_no_choices(
    provider: Provider,
) -> None:
    async with gpt(provider) as client:
        *others, last = await chunks(client, "usage")
    assert [chunk.usage for chunk in others if chunk.usage] == []
    with pytest.raises(IndexError):
        _ = last.choices[0]
    assert last.usage
    assert last.usage.prompt_tokens_details
    assert last.usage.completion_tokens == 5
    assert last.usage.prompt_tokens == 2000
    assert last.usage.prompt_tokens_details.cached_tokens == 1536


async def test_usage_comes_only_if_it_is_asked_for(provider: Provider) -> None:
    async with gpt(provider) as client:
        stream = await client.chat.completions.create(
            model="usage", messages=ASK, stream=True
        )
        async with stream:
            got = [chunk async for chunk in stream]
    assert all(chunk.choices and chunk.usage is None for chunk in got)


async def test_anthropic_counts_cached_tokens_apart(provider: Provider) -> None:
    async with claude(provider) as client:
        message = await client.messages.create(
            model="usage", messages=ASK_CLAUDE, max_tokens=100
        )
    usage = message.usage
    counts = usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens
    assert counts == (464, 1536, 5)


async def test_a_client_that_leaves_early_never_sees_the_usage(
    provider: Provider,
) -> None:
    provider.go(2)
    async with (
        gpt(provider) as client,
        await client.chat.completions.create(
            model="gated",
            messages=ASK,
            stream=True,
            stream_options={"include_usage": True},
        ) as stream,
    ):
        got = [await anext(stream) for _ in range(3)]
    assert text(got) == ["Tea", " is"]
    assert [chunk.usage for chunk in got] == [None] * 3


async def test_thoughts_are_silent_in_chat_completions_but_counted(
    provider: Provider,
) -> None:
    async with gpt(provider) as client:
        *_, last = await chunks(client, "thinking")
    assert last.usage
    assert last.usage.completion_tokens_details
    assert last.usage.completion_tokens == 10
    assert last.usage.completion_tokens_details.reasoning_tokens == 6


async def test_thoughts_are_a_summary_in_responses(provider: Provider) -> None:
    async with gpt(provider) as client:
        response = await client.responses.create(model="thinking", input="Why?")
    thoughts, _ = response.output
    assert thoughts.type == "reasoning"
    assert thoughts.summary[0].text == "The water boils; so…"


async def test_thoughts_of_claude_are_a_signed_block(provider: Provider) -> None:
    async with (
        claude(provider) as client,
        client.messages.stream(
            model="thinking", messages=ASK_CLAUDE, max_tokens=100
        ) as stream,
    ):
        message = await stream.get_final_message()
    thoughts = message.content[0]
    assert isinstance(thoughts, ThinkingBlock)
    assert (thoughts.thinking, thoughts.signature) == (
        "The water boils; so…",
        "c2NyaXB0ZWQ=",
    )


ARGUMENTS = [{"order_id": 42, "note": 'a "b" c'}, {"city": "Kyōto"}]


async def test_shards_of_arguments_belong_together_by_their_index(
    provider: Provider,
) -> None:
    async with gpt(provider) as client:
        got = await chunks(client, "tool-arguments")
    deltas = [call for c in got for x in c.choices for call in x.delta.tool_calls or []]
    shards: list[list[str]] = [[], []]
    for delta in deltas:
        assert delta.function
        shards[delta.index].append(delta.function.arguments or "")
    assert [json.loads("".join(parts)) for parts in shards] == ARGUMENTS
    # The position in the list says nothing: each list has one call.
    assert all(len(x.delta.tool_calls or []) < 2 for c in got for x in c.choices)
    with pytest.raises(json.JSONDecodeError):
        json.loads(shards[0][1])
    names = [delta.function.name for delta in deltas if delta.function]
    assert [name for name in names if name] == ["get_order", "get_weather"]
    assert got[-2].choices[0].finish_reason == "tool_calls"


async def test_both_sdks_put_the_arguments_together(provider: Provider) -> None:
    async with gpt(provider) as client:
        async with client.chat.completions.stream(
            model="tool-arguments", messages=ASK
        ) as chat:
            calls = (await chat.get_final_completion()).choices[0].message.tool_calls
        async with client.responses.stream(
            model="tool-arguments", input="Why?"
        ) as responses:
            output = (await responses.get_final_response()).output
    async with (
        claude(provider) as other,
        other.messages.stream(
            model="tool-arguments", messages=ASK_CLAUDE, max_tokens=100
        ) as messages,
    ):
        message = await messages.get_final_message()
    assert calls
    assert [json.loads(c.function.arguments) for c in calls] == ARGUMENTS
    items = [item for item in output if item.type == "function_call"]
    assert [json.loads(item.arguments) for item in items] == ARGUMENTS
    blocks = [b for b in message.content if isinstance(b, ToolUseBlock)]
    assert [block.input for block in blocks] == ARGUMENTS
    assert message.stop_reason == "tool_use"


async def test_a_refusal_of_openai_is_a_text_of_its_own(provider: Provider) -> None:
    async with gpt(provider) as client:
        got = await chunks(client, "refusal")
        response = await client.responses.create(model="refusal", input="Why?")
    refused = [c.choices[0].delta.refusal for c in got if c.choices]
    assert "".join(filter(None, refused)) == "I cannot help with that."
    assert text(got) == []
    assert got[-2].choices[0].finish_reason == "stop"
    (item,) = response.output
    assert item.type == "message"
    assert item.content[0].type == "refusal"
    assert response.output_text == ""


async def test_a_refusal_of_claude_is_a_reason_to_stop(provider: Provider) -> None:
    async with (
        claude(provider) as client,
        client.messages.stream(
            model="refusal", messages=ASK_CLAUDE, max_tokens=100
        ) as stream,
    ):
        assert [token async for token in stream.text_stream] == []
        message = await stream.get_final_message()
    assert message.stop_reason == "refusal"
    assert message.stop_details
    assert message.stop_details.explanation == "I cannot help with that."


async def test_the_limit_of_tokens_is_kept_and_told(provider: Provider) -> None:
    async with gpt(provider) as client, claude(provider) as other:
        for limit in ({"max_tokens": 3}, {"max_completion_tokens": 3}):
            chat = await client.chat.completions.create(
                model="long", messages=ASK, extra_body=limit
            )
            assert chat.choices[0].message.content == "Tea is hot. "[:-2]
            assert chat.choices[0].finish_reason == "length"
        response = await client.responses.create(
            model="long", input="Why?", max_output_tokens=3
        )
        message = await other.messages.create(
            model="long", messages=ASK_CLAUDE, max_tokens=3
        )
    assert response.incomplete_details
    assert (response.status, response.incomplete_details.reason) == (
        "incomplete",
        "max_output_tokens",
    )
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 3)
    assert [request.tokens_made for request in provider.requests()] == [3] * 4


async def test_a_model_that_no_scenario_is_named_after_gets_ok(
    provider: Provider,
) -> None:
    async with gpt(provider) as client:
        got = await chunks(client, "gpt-6-luna")
    assert text(got) == said("ok")
    assert {chunk.model for chunk in got} == {"gpt-6-luna"}
    (request,) = provider.requests()
    assert (request.scenario, request.model) == ("ok", "gpt-6-luna")


@pytest.mark.parametrize("suffix", ["", "/v1"])
async def test_base_urls_work_with_and_without_v1(
    provider: Provider, suffix: str
) -> None:
    url = provider.url + suffix
    async with gpt(provider, base_url=url) as client:
        assert text(await chunks(client, "ok")) == said("ok")
        assert [model.id async for model in client.models.list()] == list(SCENARIOS)
    async with claude(provider, base_url=url) as other:
        await other.messages.create(model="ok", messages=ASK_CLAUDE, max_tokens=10)
        assert [model.id async for model in other.models.list()] == list(SCENARIOS)


async def test_the_sdks_find_it_in_the_environment(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in provider.env.items():
        monkeypatch.setenv(name, value)
    async with AsyncOpenAI() as client, AsyncAnthropic() as other:
        assert text(await chunks(client, "ok")) == said("ok")
        await other.messages.create(model="ok", messages=ASK_CLAUDE, max_tokens=10)
    assert [request.has_key for request in provider.requests()] == [True, True]


# Refused before the first byte


REFUSALS = {
    "unauthorized": (401, "AuthenticationError", "authentication_error"),
    "rate-limited": (429, "RateLimitError", "rate_limit_error"),
    "rate-limited-once": (429, "RateLimitError", "rate_limit_error"),
    "server-error": (500, "InternalServerError", "api_error"),
    "overloaded": (529, "OverloadedError", "overloaded_error"),
}


@pytest.mark.parametrize("name", REFUSALS)
async def test_openai_raises_a_class_for_each_refusal(
    provider: Provider, name: str
) -> None:
    status, kind, _ = REFUSALS[name]
    async with gpt(provider) as client:
        with pytest.raises(openai.APIStatusError) as caught:
            await chunks(client, name)
    # OpenAI knows no 529: every status from 500 on has this class.
    known = "InternalServerError" if status == 529 else kind
    assert type(caught.value).__name__ == known
    assert (caught.value.status_code, caught.value.request_id) == (status, "req_1")
    assert (caught.value.code == "invalid_api_key") is (status == 401)


@pytest.mark.parametrize("name", REFUSALS)
async def test_anthropic_raises_a_class_for_each_refusal(
    provider: Provider, name: str
) -> None:
    status, kind, category = REFUSALS[name]
    async with claude(provider) as client:
        with pytest.raises(anthropic.APIStatusError) as caught:
            await client.messages.create(
                model=name, messages=ASK_CLAUDE, max_tokens=100
            )
    assert type(caught.value).__name__ == kind
    assert caught.value.status_code == status
    assert caught.value.type == category


async def test_a_rate_limit_says_when_to_come_back(provider: Provider) -> None:
    async with gpt(provider) as client:
        with pytest.raises(openai.RateLimitError) as caught:
            await chunks(client, "rate-limited")
    assert caught.value.response.headers["retry-after"] == "7"


async def test_both_sdks_try_again_after_a_rate_limit(provider: Provider) -> None:
    async with gpt(provider, max_retries=1) as client:
        assert text(await chunks(client, "rate-limited-once")) == said(
            "rate-limited-once"
        )
    async with claude(provider, max_retries=1) as other:
        await other.messages.create(
            model="rate-limited-once", messages=ASK_CLAUDE, max_tokens=100
        )
    assert [request.tokens_made for request in provider.requests()] == [0, 4, 0, 4]


# Broken after the status was sent


async def test_an_error_in_mid_stream_of_chat_raises_and_is_not_tried_again(
    provider: Provider,
) -> None:
    got: list[ChatCompletionChunk] = []
    async with gpt(provider, max_retries=2) as client:
        with pytest.raises(openai.APIError, match="had an error") as caught:
            await chunks(client, "overloaded-midstream", got)
    assert text(got) == ["Tea", " is"]
    assert not isinstance(caught.value, openai.APIStatusError)
    assert caught.value.type == "server_error"
    assert len(provider.requests()) == 1


async def test_an_error_in_mid_stream_of_responses_raises_nothing(
    provider: Provider,
) -> None:
    async with (
        gpt(provider) as client,
        await client.responses.create(
            model="overloaded-midstream", input="Why?", stream=True
        ) as stream,
    ):
        *_, error, failed = [event async for event in stream]
    assert error.type == "error"
    assert error.code == "server_error"
    assert failed.type == "response.failed"
    assert failed.response.error
    assert failed.response.error.code == "server_error"


async def test_an_error_in_mid_stream_of_claude_has_status_200(
    provider: Provider,
) -> None:
    got: list[str] = []
    async with claude(provider, max_retries=2) as client:
        with pytest.raises(anthropic.APIStatusError) as caught:
            await read_claude(client, "overloaded-midstream", got)
    assert got == ["Tea", " is"]
    # Neither InternalServerError nor OverloadedError: those belong to statuses.
    assert type(caught.value) is anthropic.APIStatusError
    assert (caught.value.status_code, caught.value.type) == (200, "overloaded_error")
    assert len(provider.requests()) == 1


async def read_claude(client: AsyncAnthropic, model: str, got: list[str]) -> str | None:
    """Collect the tokens in `got`, and give the reason to stop."""
    async with client.messages.stream(
        model=model, messages=ASK_CLAUDE, max_tokens=100
    ) as stream:
        async for token in stream.text_stream:
            got.append(token)  # noqa: PERF401 - what came before an error counts
        return (await stream.get_final_message()).stop_reason


CUT = ["truncated", "truncated-at-the-end", "half-event"]


@pytest.mark.parametrize("name", CUT)
async def test_a_stream_cut_short_looks_complete_to_both_sdks(
    provider: Provider, name: str
) -> None:
    tokens: list[str] = []
    async with gpt(provider) as client, claude(provider) as other:
        got = await chunks(client, name)
        reason = await read_claude(other, name, tokens)
        async with client.chat.completions.stream(model=name, messages=ASK) as stream:
            final = await stream.get_final_completion()
    expected = said(name)[: SCENARIOS[name].after]
    assert text(got) == tokens == expected
    assert [c.finish_reason for x in got for c in x.choices if c.finish_reason] == []
    assert got[-1].usage is None
    assert reason is None
    assert final.choices[0].message.content == "".join(expected)
    # Its type says that there always is a reason, so mypy would not let this be asked.
    assert final.choices[0].to_dict()["finish_reason"] is None


@pytest.mark.parametrize("name", CUT)
async def test_only_the_helper_for_responses_notices_a_stream_cut_short(
    provider: Provider, name: str
) -> None:
    async with gpt(provider) as client:
        async with await client.responses.create(
            model=name, input="Why?", stream=True
        ) as stream:
            assert [event async for event in stream][-1].type.endswith(".delta")
        async with client.responses.stream(model=name, input="Why?") as helper:
            with pytest.raises(RuntimeError, match=r"response\.completed"):
                await helper.get_final_response()


async def test_openai_wraps_a_reset_in_its_own_error(provider: Provider) -> None:
    got: list[ChatCompletionChunk] = []
    async with gpt(provider) as client:
        with pytest.raises(openai.APIConnectionError) as caught:
            await chunks(client, "reset", got)
    assert text(got) == ["Tea", " is"]
    assert isinstance(caught.value.__cause__, httpx2.ReadError)


async def test_anthropic_lets_a_reset_through_as_an_error_of_httpx2(
    provider: Provider,
) -> None:
    got: list[str] = []
    async with claude(provider) as client:
        with pytest.raises(httpx2.ReadError) as caught:
            await read_claude(client, "reset", got)
    assert got == ["Tea", " is"]
    assert not isinstance(caught.value, anthropic.AnthropicError)


@pytest.mark.parametrize("name", ["stall-before-first", "stall-after-first"])
async def test_openai_wraps_a_stall_in_its_own_error(
    provider: Provider, name: str
) -> None:
    got: list[ChatCompletionChunk] = []
    async with gpt(provider, timeout=SHORT, max_retries=2) as client:
        with pytest.raises(openai.APITimeoutError):
            await chunks(client, name, got)
    assert text(got) == said(name)[: SCENARIOS[name].after]
    assert len(provider.requests()) == 1


@pytest.mark.parametrize("name", ["stall-before-first", "stall-after-first"])
async def test_anthropic_lets_a_stall_through_as_an_error_of_httpx2(
    provider: Provider, name: str
) -> None:
    got: list[str] = []
    async with claude(provider, timeout=SHORT) as client:
        with pytest.raises(httpx2.ReadTimeout) as caught:
            await read_claude(client, name, got)
    assert got == said(name)[: SCENARIOS[name].after]
    assert not isinstance(caught.value, anthropic.AnthropicError)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("overloaded-midstream", openai.InternalServerError),
        ("truncated", json.JSONDecodeError),
        ("half-event", json.JSONDecodeError),
        ("reset", openai.APIConnectionError),
        ("stall-after-first", openai.APITimeoutError),
    ],
)
async def test_faults_also_break_an_answer_in_one_piece(
    provider: Provider, name: str, error: type[Exception]
) -> None:
    async with gpt(provider, timeout=SHORT) as client:
        with pytest.raises(error):
            await client.chat.completions.create(model=name, messages=ASK)


async def test_a_fault_never_comes_if_fewer_tokens_are_asked_for(
    provider: Provider,
) -> None:
    async with gpt(provider) as client:
        got = await client.chat.completions.create(
            model="reset", messages=ASK, max_completion_tokens=1
        )
    assert got.choices[0].finish_reason == "length"


# On the wire


def test_each_event_is_a_chunk_of_its_own(provider: Provider) -> None:
    with raw(provider, "ok") as answer:
        pieces = list(iter(answer.chunk, b""))
    assert answer.head.startswith("HTTP/1.1 200 OK\r\n")
    assert "text/event-stream; charset=utf-8" in answer.head
    assert len(pieces) == 1 + len(said("ok")) + 2
    assert all(p.startswith(b"data: ") and p.count(b"\n\n") == 1 for p in pieces)
    assert pieces[-1] == b"data: [DONE]\n\n"
    assert pieces[1] == (
        b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk",'
        b'"created":1767225600,"model":"ok","service_tier":"default",'
        b'"system_fingerprint":"fp_scripted","choices":[{"index":0,'
        b'"delta":{"content":"Tea"},"logprobs":null,"finish_reason":null}]}\n\n'
    )


def test_several_events_share_a_chunk(provider: Provider) -> None:
    with raw(provider, "joined-events") as answer:
        counts = [piece.count(b"\n\n") for piece in iter(answer.chunk, b"")]
    assert counts == [3, 3, 3, 2]


def test_lines_end_with_crlf(provider: Provider) -> None:
    with raw(provider, "crlf") as answer:
        body = answer.rest()
    assert body.count(b"\r\n\r\n") == 1 + len(said("crlf")) + 2
    assert b"\n" not in body.replace(b"\r\n", b"")


def test_crlf_is_split_between_two_chunks(provider: Provider) -> None:
    with raw(provider, "crlf-split") as answer:
        pieces = list(iter(answer.chunk, b""))
    assert not any(b"\r\n" in piece for piece in pieces)
    assert b"\r\n\r\n" in b"".join(pieces)


def test_chunks_end_inside_characters(provider: Provider) -> None:
    def is_whole(piece: bytes) -> bool:
        return piece == piece.decode("utf-8", "ignore").encode()

    with raw(provider, "utf8-split") as answer:
        pieces = list(iter(answer.chunk, b""))
    assert sum(not is_whole(piece) for piece in pieces) > 5
    assert is_whole(b"".join(pieces))


def test_a_slow_body_comes_a_byte_at_a_time(provider: Provider) -> None:
    with raw(provider, "slow-body") as answer:
        sizes = {len(piece) for piece in iter(answer.chunk, b"")}
    assert sizes == {1}


def test_a_token_of_100000_bytes_is_one_chunk(provider: Provider) -> None:
    with raw(provider, "huge-token") as answer:
        assert max(len(piece) for piece in iter(answer.chunk, b"")) > 100_000


@pytest.mark.parametrize("name", ["truncated", "truncated-at-the-end"])
def test_a_truncated_stream_ends_properly_but_says_nothing_of_it(
    provider: Provider, name: str
) -> None:
    with raw(provider, name) as answer:
        body = answer.rest()  # which needs the last chunk
    assert body.endswith(b"}\n\n")
    assert b"[DONE]" not in body
    assert b'"stop"' not in body


def test_a_half_event_ends_in_the_middle_of_a_line(provider: Provider) -> None:
    with raw(provider, "half-event") as answer:
        *_, last = iter(answer.chunk, b"")
    assert last.startswith(b'data: {"id"')
    assert b"\n" not in last


def test_a_reset_is_a_reset(provider: Provider) -> None:
    with raw(provider, "reset") as answer:
        assert [b"assistant" in answer.chunk(), b"Tea" in answer.chunk()] == [True] * 2
        answer.chunk()
        with pytest.raises(ConnectionResetError):
            answer.chunk()


def test_an_answer_keeps_the_connection_for_the_next_request(
    provider: Provider,
) -> None:
    client = http.client.HTTPConnection(provider.url[7:], timeout=scripted.WAIT)
    ports = []
    for name in ("ok", "unauthorized", "refusal", "truncated"):
        body = json.dumps({"model": name, "messages": ASK, "stream": True})
        client.request("POST", "/v1/chat/completions", body)
        ports.append(client.sock.getsockname())
        client.getresponse().read()
    client.close()
    assert len(set(ports)) == 1


def test_a_client_may_ask_before_it_sends_the_body(provider: Provider) -> None:
    body = json.dumps({"model": "refusal", "messages": ASK}).encode()
    address = (scripted.HOST, int(provider.url.rpartition(":")[2]))
    with socket.create_connection(address, scripted.WAIT) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(body)
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")


def test_what_is_no_http_ends_the_connection(provider: Provider) -> None:
    address = (scripted.HOST, int(provider.url.rpartition(":")[2]))
    with socket.create_connection(address, scripted.WAIT) as connection:
        connection.sendall(b"\x16\x03\x01\r\n\r\n")
        assert connection.recv(100) == b""


# The gate, and who left when


async def test_no_token_is_made_before_it_is_asked_for(provider: Provider) -> None:
    async with (
        gpt(provider) as client,
        await client.chat.completions.create(
            model="gated", messages=ASK, stream=True
        ) as stream,
    ):
        await anext(stream)  # the role
        assert provider.requests()[0].tokens_made == 0
        for made, token in enumerate(said("gated")[:5], 1):
            provider.go(1)
            assert text([await anext(stream)]) == [token]
            assert provider.requests()[0].tokens_made == made


async def test_who_leaves_openai_has_got_all_the_tokens_made(
    provider: Provider,
) -> None:
    provider.go(3)
    async with gpt(provider) as client:
        async with await client.chat.completions.create(
            model="gated", messages=ASK, stream=True
        ) as stream:
            got = [await anext(stream) for _ in range(4)]
        request = await asyncio.to_thread(provider.wait, 1)
    assert (request.hung_up_after, request.tokens_made) == (len(text(got)), 3)
    assert not request.finished


async def test_who_leaves_claude_has_got_all_the_tokens_made(
    provider: Provider,
) -> None:
    provider.go(3)
    async with claude(provider) as client:
        async with client.messages.stream(
            model="gated", messages=ASK_CLAUDE, max_tokens=1000
        ) as stream:
            got = [await anext(stream.text_stream) for _ in range(3)]
        request = await asyncio.to_thread(provider.wait, 1)
    assert request.hung_up_after == len(got) == 3


@pytest.mark.parametrize("stream", [True, False])
async def test_a_cancelled_task_hangs_up(provider: Provider, stream: bool) -> None:
    async with gpt(provider) as client:
        task = asyncio.create_task(
            client.chat.completions.create(model="gated", messages=ASK, stream=stream)
            if not stream
            else chunks(client, "gated")
        )
        provider.go(2)
        await asyncio.to_thread(provider.wait, 1, has_made(2))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        request = await asyncio.to_thread(provider.wait, 1)
    assert request.hung_up_after == 2


@pytest.mark.parametrize("name", ["stall-before-first", "stall-after-first", "gated"])
@pytest.mark.parametrize("how", ["close", "abort"])
def test_a_hang_up_is_noticed_while_nothing_is_sent(
    provider: Provider, name: str, how: str
) -> None:
    with raw(provider, name) as answer:
        answer.chunk()
        provider.wait(1, has_made(SCENARIOS[name].after))
        getattr(answer, how)()
        request = provider.wait(1)
    assert request.hung_up_after == SCENARIOS[name].after


def test_a_client_that_stays_to_the_end_has_not_hung_up(provider: Provider) -> None:
    for number, name in enumerate(["ok", "unauthorized", "truncated", "reset"], 1):
        with raw(provider, name) as answer:
            answer.stream.peek()
            request = provider.wait(number)
        assert (request.finished, request.hung_up_after) == (True, None)


def test_two_requests_at_once_share_what_the_gate_lets_through(
    provider: Provider,
) -> None:
    with raw(provider, "gated") as one, raw(provider, "gated") as two:
        one.chunk(), two.chunk()  # the roles
        provider.go(2000)
        tokens = len(said("gated"))
        assert one.rest().count(b'"content"') == two.rest().count(b'"content"')
        made = [request.tokens_made for request in provider.requests()]
    assert made == [tokens, tokens]


# What is told on request


def test_the_record_can_be_read_and_reset_over_http(provider: Provider) -> None:
    for _ in range(2):
        with raw(provider, "ok") as answer:
            answer.rest()
    status, told = call(provider, "GET", "/scripted/requests")
    assert status == 200
    assert told[1] == {
        "id": 2,
        "path": "/v1/chat/completions",
        "scenario": "ok",
        "model": "ok",
        "stream": True,
        "has_key": False,
        "tokens_made": len(said("ok")),
        "hung_up_after": None,
        "finished": True,
        "ended": "complete",
    }
    assert call(provider, "DELETE", "/scripted/requests") == (200, [])
    assert call(provider, "GET", "/scripted/requests") == (200, [])
    with raw(provider, "ok") as answer:
        assert b'"chatcmpl-1"' in answer.rest()


def record(provider: Provider) -> str:
    """Read the record as people do, over HTTP."""
    client = http.client.HTTPConnection(provider.url[7:], timeout=scripted.WAIT)
    client.request("GET", "/scripted/record")
    response = client.getresponse()
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    try:
        return response.read().decode()
    finally:
        client.close()


@pytest.mark.parametrize(
    ("name", "ended"),
    [
        ("ok", "complete"),
        ("unauthorized", "refused with status 401"),
        ("overloaded-midstream", "broken off: error"),
        ("truncated", "broken off: truncate"),
        ("half-event", "broken off: half-event"),
        ("reset", "broken off: reset"),
    ],
)
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_the_record_says_how_an_answer_ended(
    provider: Provider, name: str, ended: str, stream: bool
) -> None:
    with suppress(EOFError, ConnectionResetError), raw(provider, name, stream=stream):
        assert provider.wait(1).ended == ended
    row = re.split("  +", record(provider).splitlines()[1])
    assert (row[1], row[-2]) == (ended, "yes" if stream else "no")


def test_the_record_is_a_table_that_also_shows_who_left_and_who_is_still_there(
    provider: Provider,
) -> None:
    assert record(provider).split() == [
        *("request", "ended", "tokens", "model", "scenario", "stream", "path")
    ]
    with raw(provider, "gated") as answer:
        answer.chunk()
    provider.wait(1)
    with raw(provider, "tea\x1b[31m\n" + "x" * 80) as answer:
        answer.rest()
    provider.wait(2)
    with raw(provider, "stall-after-first"):
        provider.wait(3, has_made(1))
        rows = record(provider).splitlines()
    path = "/v1/chat/completions"
    assert [re.split("  +", row) for row in rows[1:]] == [
        ["1", "closed by the client", "0", "gated", "gated", "yes", path],
        ["2", "complete", "8", "tea�[31m�" + "x" * 31, "ok", "yes", path],
        ["3", "still open", "1", *["stall-after-first"] * 2, "yes", path],
    ]
    assert len({row.index("yes") for row in rows[1:]}) == 1


def test_the_gate_can_be_opened_over_http(provider: Provider) -> None:
    with raw(provider, "gated") as answer:
        answer.chunk()
        assert call(provider, "POST", "/scripted/go", '{"tokens": 1}') == (200, {})
        assert b'"Tea"' in answer.chunk()


def test_a_reset_takes_back_what_the_gate_would_have_let_through(
    provider: Provider,
) -> None:
    provider.go(5)
    provider.reset()
    provider.go(1)
    with raw(provider, "gated") as answer:
        assert b'"Tea"' in answer.chunk() + answer.chunk()
        assert provider.wait(1, has_made(1)).tokens_made == 1


async def test_a_key_is_noticed_but_kept_nowhere(
    provider: Provider, capfd: pytest.CaptureFixture[str]
) -> None:
    async with gpt(provider) as client, claude(provider) as other:
        got = str(await chunks(client, "ok"))
        with pytest.raises(anthropic.AuthenticationError) as caught:
            await other.messages.create(
                model="unauthorized", messages=ASK_CLAUDE, max_tokens=10
            )
    got += str(caught.value) + str(caught.value.response.headers)
    with raw(provider, "ok") as answer:
        answer.rest()
    told = str(call(provider, "GET", f"/scripted/requests?key={CANARY}"))
    call(provider, "POST", f"/v1/messages?key={CANARY}", **{"x-api-key": CANARY})
    assert [request.has_key for request in provider.requests()] == [True, True, False]
    kept = f"{vars(provider)}{provider.requests()}"
    assert CANARY not in got + told + kept + "".join(capfd.readouterr())


def test_a_wait_that_is_in_vain_says_what_came_instead(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_record, "WAIT", 0.01)
    with pytest.raises(TimeoutError, match=r"request 1 to be over.* came: \[\]"):
        provider.wait(1)


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/v1/chat/completions", "{}", "model: Field required"),
        ("/v1/chat/completions", '{"model": "ok"}', "messages: Field required"),
        ("/v1/responses", '{"model": "ok"}', "input: Field required"),
        ("/v1/messages", '{"model": "ok", "messages": []}', "max_tokens: Field req"),
        ("/v1/responses", "tea", "Invalid JSON"),
        ("/scripted/go", '{"tokens": 0}', "tokens: Input should be greater"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(
    provider: Provider, path: str, body: str, message: str
) -> None:
    status, told = call(provider, "POST", path, body)
    assert status == 400
    assert message in told["error"]["message"]
    assert provider.requests() == []


def test_an_unknown_path_is_not_found(provider: Provider) -> None:
    assert call(provider, "GET", "/v1/chat/completions")[0] == 404
    assert call(provider, "POST", "/v2/messages")[0] == 404


# Its file, its start and its end


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[ok", "mine.toml is no TOML: "),
        ("[late]\nabout = ''", "mine.toml lacks the scenario ok"),
        ("ok = 1", "mine.toml, scenario ok: Input should be a valid dictionary"),
        ("[ok]", "mine.toml, scenario ok: about: Field required"),
        ("[ok]\nabout = ''\nafer = 1", "scenario ok: afer: Extra inputs"),
        ("[ok]\nabout = ''\nafter = '1'", "after: Input should be a valid integer"),
        ("[ok]\nabout = ''\nafter = 1", "after: Value error, there are only 0 tokens"),
        ("[ok]\nabout = ''\nfault = 'fire'", "fault: Input should be 'error', "),
        (
            "[ok]\nabout = ''\ntools = [{name = 'a', arguments = ['{']}]",
            "scenario ok: tools.0.arguments: Value error, Expecting",
        ),
        (
            "[ok]\nabout = ''\ntools = [{name = 'a', arguments = ['1']}]",
            "tools.0.arguments: Value error, put together they are no JSON object",
        ),
    ],
)
def test_a_bad_file_is_told_by_scenario_and_field(
    tmp_path: Path, content: str, message: str
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(content, "utf-8")
    with pytest.raises(ValueError) as caught, scripted.running(file):  # noqa: PT011
        pass
    assert message in str(caught.value)


def test_another_file_replaces_the_scenarios(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[ok]\nabout = "Mine"\ntokens = ["Yes"]', "utf-8")
    with scripted.running(file) as mine, raw(mine, "gated") as answer:
        assert b'"content":"Yes"' in answer.rest()


def test_it_ends_while_it_answers() -> None:
    with scripted.running() as mine, raw(mine, "stall-after-first") as answer:
        answer.chunk()
        left = answer
    with pytest.raises(OSError, match="refused"):
        call(mine, "GET", "/scripted/requests")
    assert left.stream.closed


@pytest.mark.timeout(servers.START + 10)
def test_ctrl_c_ends_it_with_streams_open() -> None:
    code = (
        "import socket, sys; from cookbook.llm import scripted\n"
        "listener = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
        "scripted.run(listener, scripted.load()); print('Stopped.')"
    )
    port = servers.free_port()
    argv = [sys.executable, "-W", "error", "-X", "dev", "-c", code, str(port)]
    with servers.serve(argv, port) as server:
        mine = Provider(SCENARIOS)
        mine.url = server.url
        with raw(mine, "stall-after-first") as one, raw(mine, "gated") as two:
            one.chunk(), two.chunk()
            server.signal(signal.SIGINT)
            assert server.wait() == 0
            for answer in (one, two):
                with pytest.raises((EOFError, ConnectionResetError)):
                    answer.rest()
    assert server.output() == "Stopped.\n"


def test_every_scenario_is_used_by_a_test_of_this_file() -> None:
    source = Path(__file__).read_text("utf-8")
    assert [name for name in SCENARIOS if f'"{name}"' not in source] == []
