"""What breaks after the status was sent, for the SDKs and byte by byte."""

import asyncio
import gzip
import http.client
import json
import socket
import zlib
from pathlib import Path

import anthropic
import httpx2
import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from cookbook.llm import scripted
from cookbook.llm.scripted import Provider
from tests.kit import sse
from tests.llm.asking import (
    ASK,
    SCENARIOS,
    SHORT,
    call,
    chunks,
    claude,
    gpt,
    has_made,
    raw,
    read_claude,
    said,
    text,
)

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Run the asynchronous tests on asyncio alone."""
    return "asyncio"


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


# A provider that does harm


def scenario(folder: Path, **fields: object) -> Path:
    """Write a file in which the scenario `ok` has these fields."""
    file = folder / "mine.toml"
    # JSON of texts, numbers and lists of these is TOML too.
    lines = [f"{name} = {json.dumps(value)}" for name, value in fields.items()]
    file.write_text("\n".join(["[ok]", 'about = ""', *lines]), "utf-8")
    return file


def data_of(body: bytes) -> list[str]:
    """Give the data of the events in a body."""
    return [event.data for event in sse.parse([body]).events]


@pytest.mark.parametrize("stream", [True, False])
def test_a_request_without_a_head_never_gets_a_byte(
    provider: Provider, stream: bool
) -> None:
    body = json.dumps({"model": "no-head", "messages": ASK, "stream": stream})
    address = (scripted.HOST, int(provider.url.rpartition(":")[2]))
    with socket.create_connection(address, scripted.WAIT) as connection:
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        head += f"Content-Length: {len(body)}\r\n\r\n"
        connection.sendall((head + body).encode())
        # Whoever asks later has got a whole answer.
        provider.wait(1, has_made(0))
        with raw(provider, "ok") as answer:
            answer.rest()
        connection.setblocking(False)
        with pytest.raises(BlockingIOError):
            connection.recv(1)
        assert provider.requests()[0].ended is None
    request = provider.wait(1)
    assert (request.hung_up_after, request.ended) == (0, "closed by the client")


async def test_both_sdks_try_a_request_without_a_head_again(provider: Provider) -> None:
    short = httpx2.Timeout(scripted.WAIT, read=0.1)
    async with gpt(provider, timeout=short, max_retries=1) as client:
        with pytest.raises(openai.APITimeoutError):
            await chunks(client, "no-head")
    async with claude(provider, timeout=short, max_retries=1) as other:
        with pytest.raises(anthropic.APITimeoutError):
            await read_claude(other, "no-head", [])
    assert len(provider.requests()) == 4


def test_events_of_any_shape_come_in_the_middle_and_the_answer_goes_on(
    provider: Provider,
) -> None:
    odd = SCENARIOS["odd-shapes"]
    with raw(provider, "odd-shapes") as answer:
        events = data_of(answer.rest())
    place = events.index(odd.raw[0])
    more = events[place + len(odd.raw) :]
    assert [json.loads(d)["choices"][0]["delta"] for d in events[:place]][1:] == [
        {"content": "Tea"},
        {"content": " is"},
    ]
    assert events[place : place + len(odd.raw)] == odd.raw
    assert more[0] == "[" * odd.nested + "]" * odd.nested
    deltas = [json.loads(data)["choices"][0]["delta"] for data in more[1:-1]]
    assert deltas == [{"content": " hot"}, {"content": "."}, {}]
    assert more[-1] == "[DONE]"
    assert provider.wait(1).ended == "complete"


@pytest.mark.parametrize(
    ("path", "more", "otherwise"),
    [
        ("/v1/messages", {"messages": ASK, "max_tokens": 9}, "content_block_delta"),
        ("/v1/responses", {"input": "Why?"}, "response.output_text.delta"),
    ],
)
def test_an_event_of_any_shape_is_named_by_its_type_if_it_has_one(
    provider: Provider, path: str, more: dict[str, object], otherwise: str
) -> None:
    client = http.client.HTTPConnection(provider.url[7:], timeout=scripted.WAIT)
    body = json.dumps({"model": "odd-shapes", "stream": True, **more})
    client.request("POST", path, body)
    events = sse.parse([client.getresponse().read()]).events
    client.close()
    names = {event.data: event.event for event in events}
    nested = "[" * 100_000 + "]" * 100_000
    for data in ("null", "7", '{"type": 7}', '{"choices": [', nested):
        assert names[data] == otherwise
    assert names['{"type": "response.failed", "response": {"error": ["No"]}}'] == (
        "response.failed"
    )
    assert names['{"type": "message_start", "message": null}'] == "message_start"


@pytest.mark.parametrize(
    ("data", "seen"),
    [
        ("null", None),
        ("[7]", [7]),
        ('"Tea"', "Tea"),
        ('{"choices": 7}', 7),
        ('{"choices": [null]}', [None]),
        ('{"error": 7}', openai.APIError),
        ("Tea", json.JSONDecodeError),
        ("[" * 100_000, RecursionError),
    ],
)
async def test_openai_hands_on_nearly_everything(
    tmp_path: Path, data: str, seen: object
) -> None:
    file = scenario(tmp_path, tokens=["Tea"], raw=[data], after=1)
    got: list[ChatCompletionChunk] = []
    with scripted.running(file, pace=0) as mine:
        async with gpt(mine) as client:
            if isinstance(seen, type):
                with pytest.raises(seen):
                    await chunks(client, "ok", got)
                return
            await chunks(client, "ok", got)
    odd: object = got[2]
    assert (odd.choices if isinstance(odd, ChatCompletionChunk) else odd) == seen


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ("null", "NoneType"),
        ('{"type": "error", "error": null}', "null|None"),
        ("[" * 100_000, "recursion"),
    ],
)
async def test_claudes_sdk_breaks_in_its_own_code(
    tmp_path: Path, data: str, error: str
) -> None:
    file = scenario(tmp_path, tokens=["Tea"], raw=[data], after=1)
    got: list[str] = []
    with scripted.running(file, pace=0) as mine:
        async with claude(mine) as client:
            with pytest.raises(Exception, match=error):
                await read_claude(client, "ok", got)
    assert got == ["Tea"]


def test_without_a_stream_the_first_odd_shape_is_the_answer(provider: Provider) -> None:
    body = json.dumps({"model": "odd-shapes", "messages": ASK})
    assert call(provider, "POST", "/v1/chat/completions", body) == (200, None)


def test_an_endless_line_has_no_end_and_keeps_nobody_else_waiting(
    provider: Provider,
) -> None:
    with raw(provider, "endless-line") as answer:
        begin = b"".join(answer.chunk() for _ in range(3))
        assert [b'"content":"%s"' % t in begin for t in (b"Tea", b" is")] == [True] * 2
        assert answer.chunk() == b"data: "
        assert {bytes(set(answer.chunk())) for _ in range(8)} == {b"x"}
        with raw(provider, "ok") as other:
            other.rest()
        assert provider.requests()[0].ended is None
    assert provider.wait(1).ended == "closed by the client"


async def test_who_leaves_an_endless_line_has_two_tokens(
    provider: Provider,
) -> None:
    async with gpt(provider) as client:
        async with await client.chat.completions.create(
            model="endless-line", messages=ASK, stream=True
        ) as stream:
            got = [await anext(stream) for _ in range(3)]
        request = await asyncio.to_thread(provider.wait, 1)
    assert text(got) == ["Tea", " is"]
    assert request.hung_up_after == 2


def unpacked(body: bytes) -> int:
    """Count the bytes that a gzip file unpacks to, with little memory."""
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    size = 0
    while not unpacker.eof:
        size += len(unpacker.decompress(body, 2**20))
        body = unpacker.unconsumed_tail
    return size


@pytest.mark.parametrize("stream", [True, False])
def test_a_gzip_bomb_is_small_on_the_wire(provider: Provider, stream: bool) -> None:
    with raw(provider, "gzip-bomb", stream=stream) as answer:
        body = answer.rest()
    assert "content-encoding: gzip\r\n" in answer.head.lower()
    assert len(body) < 250_000
    assert 200_000_000 < unpacked(body) < 200_001_000
    assert provider.wait(1).ended == "broken off: gzip-bomb"


def test_a_gzip_bomb_is_one_line_as_long_as_the_scenario_says(tmp_path: Path) -> None:
    size = 3 * 2**20 + 7
    file = scenario(tmp_path, tokens=["Tea"], fault="gzip-bomb", unpacks_to=size)
    with scripted.running(file) as mine, raw(mine, "any") as answer:
        body = gzip.decompress(answer.rest())  # which also looks at the sum
    role, line = body.split(b"\n\n")
    assert b'"role":"assistant"' in role
    assert line == b"data: " + b"x" * size


async def test_a_gzip_bomb_looks_complete_to_both_sdks(tmp_path: Path) -> None:
    fields = {"tokens": ["Tea", "."], "after": 1, "unpacks_to": 10**6}
    file = scenario(tmp_path, fault="gzip-bomb", **fields)
    tokens: list[str] = []
    with scripted.running(file) as mine:
        async with gpt(mine) as client, claude(mine) as other:
            got = await chunks(client, "ok")
            reason = await read_claude(other, "ok", tokens)
    assert text(got) == tokens == ["Tea"]
    assert [c.finish_reason for x in got for c in x.choices if c.finish_reason] == []
    assert reason is None
