"""Ask the scripted provider as the recipes do, and byte by byte."""

import http.client
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
from anthropic import AsyncAnthropic
from anthropic.types import MessageParam
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from cookbook.llm import scripted
from cookbook.llm.scripted import Provider, Request
from tests.kit.servers import Answer

ASK: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Why?"}]
ASK_CLAUDE: list[MessageParam] = [{"role": "user", "content": "Why?"}]
CANARY = "sk-canary-0123456789"
SHORT = httpx2.Timeout(scripted.WAIT, read=1.0)  # seconds
SCENARIOS = scripted.load()


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


def has_made(tokens: int) -> Callable[[Request], bool]:
    """Make a condition for `wait`."""

    def made(request: Request) -> bool:
        return request.tokens_made == tokens

    return made


async def read_claude(client: AsyncAnthropic, model: str, got: list[str]) -> str | None:
    """Collect the tokens in `got`, and give the reason to stop."""
    async with client.messages.stream(
        model=model, messages=ASK_CLAUDE, max_tokens=100
    ) as stream:
        async for token in stream.text_stream:
            got.append(token)  # noqa: PERF401 - what came before an error counts
        return (await stream.get_final_message()).stop_reason
