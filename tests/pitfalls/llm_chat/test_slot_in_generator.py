"""docs/pitfalls/tokens.md: 429 Too Many Requests, though nobody is connected any more."""

import asyncio
import gc
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from openai.types.chat import ChatCompletionChunk
from starlette.types import ASGIApp, Message

from recipes import llm_chat
from recipes.pitfalls.llm_chat import slot_in_generator as wrong
from tests.kit.asgi import drive

BODY = json.dumps({"messages": [{"role": "user", "content": "Hi"}]}).encode()
CHUNK = ChatCompletionChunk.model_validate(
    {
        "id": "1",
        "created": 0,
        "model": "m",
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": {"content": "a"}}],
    }
)


class Endless:
    """A provider's stream that goes on as long as it is asked to."""

    async def __aenter__(self) -> "Endless":
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def __anext__(self) -> ChatCompletionChunk:
        return CHUNK


async def create(**_: object) -> Endless:
    """Begin an answer without a provider."""
    return Endless()


@pytest.fixture(autouse=True)
def no_garbage_collector() -> Iterator[None]:
    """See to it that nothing is released by chance."""
    gc.disable()
    yield
    gc.enable()


async def visit(app: ASGIApp) -> int:
    """Ask, do not take the first chunk, and leave; give the status."""
    status, asked, stalled = 0, False, asyncio.Event()

    async def receive() -> Message:
        nonlocal asked
        if asked:
            await stalled.wait()
            return {"type": "http.disconnect"}
        asked = True
        return {"type": "http.request", "body": BODY}

    async def send(message: Message) -> None:
        nonlocal status
        status = message.get("status", status)
        if message.get("more_body"):
            stalled.set()
            await asyncio.Event().wait()

    completions = SimpleNamespace(create=create)
    client = SimpleNamespace(chat=SimpleNamespace(completions=completions))
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/chat/stream",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
        "client": ("127.0.0.1", 50000),
        "state": {"client": client, "model": "m"},
    }
    # FastAPI reports a slow client that left as an error; see tests/recipes.
    await asyncio.gather(app(scope, receive, send), return_exceptions=True)
    return status


async def visit_often(app: ASGIApp) -> list[int]:
    """Give the statuses of a hundred clients, one after the other."""
    return [await visit(app) for _ in range(100)]


@pytest.mark.parametrize(("right", "let_in"), [(False, 3), (True, 100)])
def test_a_hundred_clients_that_left_keep_no_place(
    right: bool, let_in: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    module: Any = llm_chat if right else wrong
    monkeypatch.setattr(module, "open_streams", [])
    statuses = asyncio.run(visit_often(module.app))
    assert statuses == [200] * let_in + [429] * (100 - let_in)


def test_a_client_that_reads_until_it_leaves_hides_the_mistake() -> None:
    drive(wrong.app, "/chat/stream", method="POST", disconnect_at=2)
    assert wrong.open_streams == []
