"""The scripted provider, used as the recipes use it: answers, refusals, who left."""

import asyncio
import http.client
import json
import signal
import socket
import sys

import anthropic
import openai
import pytest
from anthropic import AsyncAnthropic
from anthropic.types import ThinkingBlock, ToolUseBlock
from openai import AsyncOpenAI

from cookbook.llm import scripted
from cookbook.llm.scripted import Provider
from tests.kit import servers
from tests.llm.asking import (
    ASK,
    ASK_CLAUDE,
    SCENARIOS,
    call,
    chunks,
    claude,
    gpt,
    has_made,
    raw,
    said,
    text,
)

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


# The connection


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


# Its start and its end


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
