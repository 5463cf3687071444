"""A language model for tests: it says the same each time, and needs no key.

It speaks what a stream asks for of OpenAI's chat completions and responses and of
Anthropic's messages. Let it say what your test needs: change `TOKENS`.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse

TOKENS = ["Tea", " is", " hot", " because", " the", " water", " was", "."]
PAUSE = 0.05  # seconds before each token
ASKED = 12  # tokens of the question

app = FastAPI(title="model_stand_in")


def event(data: object, name: str = "") -> str:
    """Write a server-sent event with JSON as its data."""
    text = json.dumps(data, separators=(",", ":"))
    return f"event: {name}\ndata: {text}\n\n" if name else f"data: {text}\n\n"


async def tokens() -> AsyncIterator[str]:
    """Give the answer, a token at a time."""
    for token in TOKENS:
        await asyncio.sleep(PAUSE)
        yield token


def completion(
    model: str, choices: list[Any], usage: dict[str, int] | None = None
) -> str:
    """Write a chunk of a chat completion."""
    head = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_767_225_600,  # seconds since 1970
        "model": model,
        "service_tier": "default",
        "system_fingerprint": "fp_scripted",
    }
    return event({**head, "choices": choices, "usage": usage})


def choice(delta: dict[str, Any], reason: str | None = None) -> list[Any]:
    """Give the choices of a chunk, of which there is one."""
    return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]


async def completions(model: str) -> AsyncIterator[str]:
    """Answer as OpenAI's chat completions do, with the count of tokens at the end."""
    first = {"role": "assistant", "content": "", "refusal": None}
    yield completion(model, choice(first))
    async for token in tokens():
        yield completion(model, choice({"content": token}))
    yield completion(model, choice({}, "stop"))
    usage = {
        "prompt_tokens": ASKED,
        "completion_tokens": len(TOKENS),
        "total_tokens": ASKED + len(TOKENS),
    }
    yield completion(model, [], usage)
    yield "data: [DONE]\n\n"


async def responses(model: str) -> AsyncIterator[str]:
    """Answer as OpenAI's responses do."""
    response: dict[str, Any] = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_767_225_600,  # seconds since 1970
        "model": model,
        "status": "in_progress",
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }
    number = 0
    created = {"type": "response.created", "response": response}
    yield event({**created, "sequence_number": number}, "response.created")
    async for token in tokens():
        number += 1
        delta = {
            "type": "response.output_text.delta",
            "sequence_number": number,
            "item_id": "msg_1",
            "output_index": 0,
            "content_index": 0,
            "delta": token,
            "logprobs": [],
        }
        yield event(delta, "response.output_text.delta")
    response["status"] = "completed"
    response["usage"] = {
        "input_tokens": ASKED,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": len(TOKENS),
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": ASKED + len(TOKENS),
    }
    done = {"type": "response.completed", "response": response}
    yield event({**done, "sequence_number": number + 1}, "response.completed")


async def messages(model: str) -> AsyncIterator[str]:
    """Answer as Anthropic's messages do."""
    message: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": ASKED, "output_tokens": 1},
    }
    yield event({"type": "message_start", "message": message}, "message_start")
    block: dict[str, Any] = {"type": "content_block_start", "index": 0}
    block["content_block"] = {"type": "text", "text": ""}
    yield event(block, "content_block_start")
    async for token in tokens():
        delta: dict[str, Any] = {"type": "content_block_delta", "index": 0}
        delta["delta"] = {"type": "text_delta", "text": token}
        yield event(delta, "content_block_delta")
    yield event({"type": "content_block_stop", "index": 0}, "content_block_stop")
    end: dict[str, Any] = {"type": "message_delta"}
    end["delta"] = {"stop_reason": "end_turn", "stop_sequence": None}
    end["usage"] = {"output_tokens": len(TOKENS)}
    yield event(end, "message_delta")
    yield event({"type": "message_stop"}, "message_stop")


SPEAKERS = {
    "chat/completions": completions,
    "responses": responses,
    "messages": messages,
}


@app.post("/v1/{place:path}")
async def answer(place: str, asked: dict[str, Any]) -> StreamingResponse:
    """Stream the answer in the words of the interface that was asked for."""
    speaker = SPEAKERS.get(place)
    if speaker is None:
        raise HTTPException(404, f"This stand-in knows {', '.join(SPEAKERS)}.")
    return StreamingResponse(speaker(asked["model"]), media_type="text/event-stream")
