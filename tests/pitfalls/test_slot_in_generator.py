"""docs/pitfalls.md: 429 Too Many Requests for ever, though nobody is connected."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from openai.types.chat import ChatCompletionChunk
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recipes import llm_chat
from recipes.pitfalls import slot_in_generator as wrong
from tests.kit.asgi import Run, drive

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


def ask(app: ASGIApp, disconnect_at: int | None = None) -> Run:
    """Ask a question."""
    return drive(
        app,
        "/chat/stream",
        method="POST",
        headers={"content-type": "application/json"},
        body=BODY,
        disconnect_at=disconnect_at,
    )


@pytest.fixture(autouse=True)
def endless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the recipe a provider in this process."""

    async def create(**_: object) -> Endless:
        return Endless()

    client = SimpleNamespace(
        chat=SimpleNamespace(completions=SimpleNamespace(create=create))
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
        yield {"client": client, "model": "m"}

    monkeypatch.setattr(llm_chat.app.router, "lifespan_context", lifespan)


def left_early(app: ASGIApp) -> ASGIApp:
    """Let every client be gone by the time that its response begins."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        asked: list[Message] = []

        async def receive_once() -> Message:
            if asked and scope["type"] == "http":
                return {"type": "http.disconnect"}
            asked.append(await receive())
            return asked[-1]

        await app(scope, receive_once, send)

    return wrapped


@pytest.mark.parametrize(("right", "status"), [(False, 429), (True, 200)])
def test_clients_that_left_early_keep_the_places_of_those_who_come(
    right: bool, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    module: Any = llm_chat if right else wrong
    monkeypatch.setattr(module, "open_streams", [])
    for _ in range(llm_chat.STREAMS):
        ask(left_early(module.app))
    run = ask(module.app, disconnect_at=0)
    assert run.status == status
