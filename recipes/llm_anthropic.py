# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "anthropic>=2.11", "anyio>=4.16", "fastapi>=0.165", "httpx2>=2.16",
#     "uvicorn>=0.54",
# ]
#
# [tool.cookbook]
# application = true
# needs = ["model"]
# ///
"""Stream the tokens of a language model as server-sent events (Anthropic).

Run it:   uvicorn recipes.llm_anthropic:app
Try it:   curl -N 'http://127.0.0.1:8000/answer?prompt=Why+is+tea+hot'
"""

import logging
import os
import traceback
from asyncio import FIRST_COMPLETED, create_task, wait
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import anthropic
import httpx2
import uvicorn
from anthropic.types import RawMessageStreamEvent, ToolParam
from anyio import BrokenResourceError
from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field, JsonValue, TypeAdapter

DEFAULT_MODEL = "claude-haiku-5-5"  # a small one; ANTHROPIC_MODEL names another
SILENCE = 30.0  # seconds that the provider may be silent, before and in its answer
LENGTH = 2048  # tokens of an answer, with its thoughts; Anthropic wants a limit

# With a limit Pydantic also refuses half a surrogate pair, which UTF-8 cannot hold.
Text = Annotated[str, Field(max_length=1_000_000)]
Count = Annotated[int, Field(ge=0, le=1_000_000_000)]
Prompt = Annotated[str, Query(min_length=1, max_length=2000)]
Chunks = anthropic.AsyncStream[RawMessageStreamEvent]


# --8<-- [start:events]
class Start(BaseModel):
    """The first event: the model has begun to answer."""

    id: Text
    model: Text


class Thinking(BaseModel):
    """A piece of what the model thinks before it answers; no part of the answer."""

    text: Text


class Token(BaseModel):
    """A piece of the answer, with all its spaces and line ends."""

    text: Text


class Tool(BaseModel):
    """A tool that the model asks for; use it when the answer is done."""

    id: Text
    name: Text
    arguments: dict[str, JsonValue]


class Usage(BaseModel):
    """What is paid for, under the names that OpenAI's chat completions have for it."""

    completion_tokens: Count
    prompt_tokens: Count
    total_tokens: Count
    prompt_tokens_details: dict[str, Count]


class Done(BaseModel):
    """The last event of an answer that is complete."""

    finish_reason: Text
    usage: Usage | None


class Failed(BaseModel):
    """The last event of an answer that is not; says whether asking again may help."""

    type: str
    message: str = "The answer broke off."
    retryable: bool = True


NAMES = {Start: "start", Token: "token", Done: "done", Failed: "failed"}
NAMES |= {Thinking: "thinking", Tool: "tool"}
Event = Start | Thinking | Token | Tool | Done | Failed


# --8<-- [end:events]
# --8<-- [start:opening]
GET_ORDER: ToolParam = {
    "name": "get_order",
    "description": "Look up an order of the shop by its number.",
    "input_schema": {"type": "object", "properties": {"order_id": {"type": "integer"}}},
}


async def ask(client: anthropic.AsyncAnthropic, prompt: str) -> Chunks:
    """Ask the provider; return as soon as the headers of its response are here.

    Raises:
        HTTPException: it refused or failed, told in our words and not in its own.
    """
    try:
        return await client.messages.create(
            model=os.environ.get("ANTHROPIC_MODEL") or DEFAULT_MODEL,
            messages=[{"role": "user", "content": prompt}],
            max_tokens=LENGTH,
            thinking={"type": "adaptive", "display": "summarized"},
            tools=[GET_ORDER],
            stream=True,
        )
    except (anthropic.RateLimitError, anthropic.OverloadedError):
        raise HTTPException(429, "The model is busy.", {"Retry-After": "60"}) from None
    except (anthropic.AuthenticationError, anthropic.PermissionDeniedError):
        raise HTTPException(503, "The provider does not accept the key.") from None
    except Exception as error:
        logging.getLogger(__name__).error("No answer: %s", type(error))
        raise HTTPException(502, "The provider did not answer.") from None


def has_key() -> bool:
    """Tell whether the SDK finds a key or a token in the environment."""
    key = os.environ.get("ANTHROPIC_API_KEY") or os.environ.get("ANTHROPIC_AUTH_TOKEN")
    return bool(key)


async def client_leaves(request: Request) -> None:
    """Wait until the client has left; the server's last message says so (ASGI)."""
    while (await request.receive())["type"] != "http.disconnect":
        pass  # Before it comes the request's body, which is empty.


async def open_chunks(request: Request, prompt: Prompt) -> AsyncIterator[Chunks]:
    """Begin the answer while a status can still say no, and close it in any case."""
    if not (has_key() or os.environ.get("ANTHROPIC_BASE_URL")):
        raise HTTPException(503, "No model: run `cookbook llm` and type its exports.")
    asking = create_task(ask(request.state.client, prompt))
    leaving = create_task(client_leaves(request))
    try:
        await wait([asking, leaving], timeout=SILENCE, return_when=FIRST_COMPLETED)
        if not asking.done():
            raise HTTPException(502, "The provider did not answer.")
    finally:
        leaving.cancel()
        asking.cancel()  # If it still waits, this closes the provider's connection.
    try:
        async with asking.result() as chunks:
            yield chunks
    except* BrokenResourceError:
        pass  # FastAPI's, when a client leaves that had stopped reading.


# --8<-- [end:opening]
# --8<-- [start:reading]
# What OpenAI's chat completions call it; a reason that is not here keeps its name.
REASONS = {
    "end_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
# In the middle of an answer the SDK leaves the errors of the network as they are.
LOST = (anthropic.APIError, httpx2.TransportError)


class Call(BaseModel, validate_assignment=True):
    """A call of a tool whose arguments still come in, as shards of JSON."""

    id: Text
    name: Text
    shards: Annotated[str, Field(max_length=100_000)] = ""


def whole(call: Call) -> Tool:
    """Parse the arguments, now that all shards are here; no shard at all means `{}`."""
    arguments = TypeAdapter(dict[str, JsonValue]).validate_json(call.shards or "{}")
    return Tool(id=call.id, name=call.name, arguments=arguments)


def bill(counts: dict[str, Any]) -> Usage | None:
    """Count as OpenAI does: for Anthropic, tokens of its cache are no input tokens."""
    if "input_tokens" not in counts:
        return None
    read = counts.get("cache_read_input_tokens", 0)
    written = counts.get("cache_creation_input_tokens", 0)
    prompt = counts["input_tokens"] + read + written
    return Usage(
        completion_tokens=counts["output_tokens"],
        prompt_tokens=prompt,
        total_tokens=prompt + counts["output_tokens"],
        prompt_tokens_details={"cached_tokens": read, "cache_write_tokens": written},
    )


# --8<-- [end:reading]
# --8<-- [start:producer]
def failed(error: Exception) -> Failed:
    """Log what kind of error it was and where it arose; its words go nowhere."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    logging.getLogger(__name__).error("Broke off: %s\n%s", type(error), frames)
    if getattr(error, "type", None) == "overloaded_error":  # Its status is 200.
        return Failed(type="overloaded")
    return Failed(type="provider", retryable=isinstance(error, LOST))


async def answer(chunks: Chunks) -> AsyncIterator[Event]:
    """Turn the provider's chunks into events; the last one tells how it went."""
    reason = None
    counts: dict[str, Any] = {}
    calls: dict[int, Call] = {}
    try:
        async for chunk in chunks:
            if chunk.type == "message_start":
                counts |= chunk.message.usage.to_dict(exclude_none=True, warnings=False)
                yield Start(id=chunk.message.id, model=chunk.message.model)
            elif chunk.type == "content_block_start":
                block = chunk.content_block
                if block.type == "tool_use":
                    calls[chunk.index] = Call(id=block.id, name=block.name)
            elif chunk.type == "content_block_delta":
                delta = chunk.delta
                if delta.type == "text_delta":
                    yield Token(text=delta.text)
                elif delta.type == "thinking_delta":
                    yield Thinking(text=delta.thinking)
                elif delta.type == "input_json_delta":
                    calls[chunk.index].shards += delta.partial_json
            elif chunk.type == "message_delta":
                counts |= chunk.usage.to_dict(exclude_none=True, warnings=False)
                reason = chunk.delta.stop_reason or reason
        if reason == "tool_use":
            tools = [whole(call) for call in calls.values()]
            for tool in tools:
                yield tool
        if reason:
            yield Done(finish_reason=REASONS.get(reason, reason), usage=bill(counts))
        else:  # A stream that was cut ends as a complete one does: without an error.
            yield Failed(type="truncated")
    except Exception as error:  # The SDK checks nothing: a chunk may hold anything.
        yield failed(error)


# --8<-- [end:producer]
# --8<-- [start:routes]
@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """Keep one client, with its connections, as long as the application runs."""
    key = None if has_key() else "none"  # The SDK insists on one, and finds yours.
    sdk = anthropic.AsyncAnthropic(api_key=key, timeout=SILENCE, max_retries=0)
    async with sdk:
        yield {"client": sdk}


app = FastAPI(title="llm_anthropic", lifespan=lifespan)
Opened = Annotated[Chunks, Depends(open_chunks)]
# Without it /openapi.json would not know the models.
EVENTS: dict[int | str, Any] = {200: {"model": Event}}


@app.get("/answer", response_class=EventSourceResponse, responses=EVENTS)
async def stream_answer(chunks: Opened) -> AsyncIterator[ServerSentEvent]:
    """Send each event under its name, with its fields as JSON."""
    async for event in answer(chunks):
        yield ServerSentEvent(event=NAMES[type(event)], data=event)


# --8<-- [end:routes]
if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8000)
