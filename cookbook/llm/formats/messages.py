"""Anthropic Messages.

https://docs.anthropic.com/en/docs/build-with-claude/streaming
"""

import json
from collections.abc import Iterator

from pydantic import Field

from cookbook.llm.formats.answer import (
    SILENT,
    Answer,
    Asked,
    Block,
    Event,
    Format,
    Json,
    Limit,
    Token,
)

SIGNATURE = "c2NyaXB0ZWQ="  # with which Claude signs its thoughts

# What the request says


class AskedMessage(Asked):
    """A request for a message, which has to have a limit."""

    messages: list[Json]
    limit: Limit = Field(alias="max_tokens")


# What a stream and an answer in one piece have in common


def stop_fields(answer: Answer) -> Json:
    """Say why the answer ends."""
    reason = "end_turn"
    details = None
    refused = answer.text("refusal")
    if answer.cut:
        reason = "max_tokens"
    elif answer.tools:
        reason = "tool_use"
    elif refused:
        reason = "refusal"
        details = {"type": "refusal", "category": None, "explanation": refused}
    return {"stop_reason": reason, "stop_sequence": None, "stop_details": details}


NOT_STOPPED = {"stop_reason": None, "stop_sequence": None, "stop_details": None}


def message(answer: Answer, content: list[Json], end: Json, output: int) -> Json:
    """Give a message with these blocks; `output` counts the tokens so far."""
    return {
        "id": f"msg_{answer.number}",
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": content,
        **end,
        "usage": {
            "input_tokens": answer.input_tokens - answer.cached_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": answer.cached_tokens,
            "output_tokens": output,
            "service_tier": "standard",
        },
    }


def arguments(text: str) -> Json:
    """Read arguments; those that the limit cut short are nothing."""
    try:
        parsed: Json = json.loads(text)
    except ValueError:
        return {}
    return parsed


def content_block(answer: Answer, block: Block, *, whole: bool) -> Json:
    """Give a block of content, whole or still empty."""
    text = block.text if whole else ""
    if block.kind == "thinking":
        signature = SIGNATURE if whole else ""
        return {"type": "thinking", "thinking": text, "signature": signature}
    if block.kind == "tool":
        return {
            "type": "tool_use",
            "id": f"toolu_{answer.number}_{block.tool}",
            "name": answer.tools[block.tool],
            "input": arguments(text),
        }
    return {"type": "text", "text": text}


# The stream


def stream(answer: Answer) -> Iterator[Event]:
    """Give the events, each named by its type."""
    empty = message(answer, [], NOT_STOPPED, output=1)
    yield event({"type": "message_start", "message": empty})
    for block in answer.blocks:
        if block.kind == "refusal":
            # Claude says nothing: that it refuses is in the reason why it stopped.
            for _ in block.tokens:
                yield SILENT
            continue
        yield from block_events(answer, block)
    usage = {"output_tokens": len(answer.tokens)}
    yield event({"type": "message_delta", "delta": stop_fields(answer), "usage": usage})
    yield event({"type": "message_stop"})


def event(data: Json, *, token: bool = False) -> Event:
    """Name an event by its type."""
    return Event(data, data["type"], token)


def block_events(answer: Answer, block: Block) -> Iterator[Event]:
    """Give one block of content, token by token; a ping comes early in the stream."""
    start = content_block(answer, block, whole=False)
    place = {"index": block.index}
    yield event({"type": "content_block_start", **place, "content_block": start})
    if block.index == 0:
        yield event({"type": "ping"})
    for token in block.tokens:
        data = {"type": "content_block_delta", **place, "delta": delta_of(token)}
        yield event(data, token=True)
        if answer.silences:
            yield event({"type": "ping"})
    if block.kind == "thinking":
        signed = {"type": "signature_delta", "signature": SIGNATURE}
        yield event({"type": "content_block_delta", **place, "delta": signed})
    yield event({"type": "content_block_stop", **place})


def delta_of(token: Token) -> Json:
    """Give what one token adds to its block."""
    if token.kind == "thinking":
        return {"type": "thinking_delta", "thinking": token.text}
    if token.kind == "tool":
        return {"type": "input_json_delta", "partial_json": token.text}
    return {"type": "text_delta", "text": token.text}


# The answer in one piece


def whole(answer: Answer) -> Json:
    """Give the message that is sent without a stream."""
    blocks = [block for block in answer.blocks if block.kind != "refusal"]
    content = [content_block(answer, block, whole=True) for block in blocks]
    return message(answer, content, stop_fields(answer), output=len(answer.tokens))


# Errors

KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def error(status: int, message: str) -> Json:
    """Give the body of an error, also the one that comes in the middle of a stream."""
    kind = KINDS.get(status, "api_error")
    return {"type": "error", "error": {"type": kind, "message": message}}


def failure(_answer: Answer, _sent: int) -> list[Event]:
    """Give the event of an error in the middle of a stream."""
    return [Event(error(529, "Overloaded"), "error")]


FORMAT = Format(
    stream,
    whole,
    error,
    failure,
    AskedMessage,
    request_id="request-id",
    delta="content_block_delta",
)
