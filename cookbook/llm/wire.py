"""Three vendors' wire formats, as plain generators that know nothing of HTTP.

    answer = Answer(1, "ok", [Token("text", "Tea"), Token("text", " is hot.")])
    for event in FORMATS["/chat/completions"].stream(answer):
        body += frame(event)

Where the documentation leaves something open, the types of the official SDKs decide:
the tests hold every event against them.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AliasChoices, BaseModel, Field

Json = dict[str, Any]
Kind = Literal["thinking", "text", "refusal", "tool"]

CREATED = 1_767_225_600  # s since 1970: always the same, as transcripts are compared
SIGNATURE = "c2NyaXB0ZWQ="
BROKE_OFF = "The server had an error while it was answering."


class Token(NamedTuple):
    """One token; `tool` numbers the call whose arguments it is part of, from 0."""

    kind: Kind
    text: str
    tool: int = 0


@dataclass(frozen=True)
class Block:
    """Consecutive tokens that belong together; `index` counts blocks from 0."""

    index: int
    kind: Kind
    tool: int
    tokens: Sequence[Token]

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(token.text for token in self.tokens)


class Event(NamedTuple):
    """One event: JSON, or text as it stands, or None for what makes no sound.

    `token` marks the events before which the model has to make a token.
    """

    data: Json | str | None
    name: str = ""
    token: bool = False


@dataclass(frozen=True)
class Answer:
    """What is to be said; `number` goes into the ids, so that they are always the same.

    `cut` says that there was more to say than the request allows, `silences` that after
    each token something comes that carries no text. `input_tokens` counts all tokens of
    the question, also those that came out of the cache.
    """

    number: int
    model: str
    tokens: Sequence[Token]
    tools: Sequence[str] = ()
    cut: bool = False
    silences: bool = False
    usage: bool = False
    input_tokens: int = 12
    cached_tokens: int = 0

    @property
    def blocks(self) -> list[Block]:
        """The tokens, put together by what they are."""
        groups = groupby(self.tokens, lambda token: (token.kind, token.tool))
        return [Block(n, *key, list(group)) for n, (key, group) in enumerate(groups)]

    def text(self, kind: Kind) -> str:
        """Join the tokens of one kind."""
        return "".join(token.text for token in self.tokens if token.kind == kind)

    def count(self, kind: Kind) -> int:
        """Count the tokens of one kind."""
        return sum(token.kind == kind for token in self.tokens)


class Format(NamedTuple):
    """How one vendor puts an answer, and an error, into bytes."""

    stream: Callable[[Answer], Iterator[Event]]
    whole: Callable[[Answer], Json]
    error: Callable[[int, str], Json]  # the body of a response with this status
    failure: Callable[[Answer, int], list[Event]]  # after so many events of a stream
    asked: type["Asked"]
    request_id: str  # the header that names the request


class Options(BaseModel):
    """The options of a stream of chat completions."""

    include_usage: bool | None = None


class Asked(BaseModel):
    """What is read of a request; `limit` is how many tokens it allows."""

    model: str
    stream: bool | None = None
    stream_options: Options | None = None
    limit: Annotated[int, Field(ge=1)] | None = None

    def wants_usage(self) -> bool:
        """Say whether a stream of chat completions is to end with a count."""
        return bool(self.stream_options and self.stream_options.include_usage)


class AskedChat(Asked):
    """A request for a chat completion; `max_tokens` is the old name of the limit."""

    messages: list[Json]
    limit: Annotated[int, Field(ge=1)] | None = Field(
        None, validation_alias=AliasChoices("max_completion_tokens", "max_tokens")
    )


class AskedResponse(Asked):
    """A request for a response."""

    input: str | list[Json]
    limit: Annotated[int, Field(ge=1)] | None = Field(None, alias="max_output_tokens")


class AskedMessage(Asked):
    """A request for a message, which has to have a limit."""

    messages: list[Json]
    limit: Annotated[int, Field(ge=1)] = Field(alias="max_tokens")


def frame(event: Event, end: str = "\n") -> bytes:
    """Write an event as Server-Sent Events; `end` ends its lines."""
    data = event.data if isinstance(event.data, str) else dumps(event.data)
    lines = [f"event: {event.name}"] if event.name else []
    return "".join(line + end for line in [*lines, f"data: {data}", ""]).encode()


def dumps(data: object) -> str:
    """Write JSON as the vendors do: compact, and with all letters as they are."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


# OpenAI chat completions
# https://platform.openai.com/docs/api-reference/chat-streaming


def chat_stream(answer: Answer) -> Iterator[Event]:
    """Give the chunks; thinking is silent here, it only costs time and tokens."""
    content = None if answer.tools and not answer.text("text") else ""
    first = {"role": "assistant", "content": content, "refusal": None}
    yield _chunk(answer, first)
    for block in answer.blocks:
        if block.kind == "tool":
            call = _chat_call(answer, block) | {"index": block.tool}
            call["function"]["arguments"] = ""
            yield _chunk(answer, {"tool_calls": [call]})
        for token in block.tokens:
            if token.kind == "thinking":
                yield Event(None, token=True)
                continue
            yield _chunk(answer, _chat_delta(token), token=True)
            if answer.silences:
                yield _chunk(answer, {"content": None})
    yield _chunk(answer, {}, _finish_reason(answer))
    if answer.usage:
        yield Event(_chat_base(answer, ".chunk") | {"choices": [], "usage": _u(answer)})
    yield Event("[DONE]")


def _chat_delta(token: Token) -> Json:
    if token.kind == "tool":
        function = {"arguments": token.text}
        return {"tool_calls": [{"index": token.tool, "function": function}]}
    return {"refusal" if token.kind == "refusal" else "content": token.text}


def _chunk(
    answer: Answer, delta: Json, finish: str | None = None, *, token: bool = False
) -> Event:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    data = _chat_base(answer, ".chunk") | {"choices": [choice]}
    # With usage asked for, every chunk has the field; only the last has a value.
    return Event(data | ({"usage": None} if answer.usage else {}), token=token)


def _chat_base(answer: Answer, suffix: str = "") -> Json:
    return {
        "id": f"chatcmpl-{answer.number}",
        "object": f"chat.completion{suffix}",
        "created": CREATED,
        "model": answer.model,
        "service_tier": "default",
        "system_fingerprint": "fp_scripted",
    }


def _chat_call(answer: Answer, block: Block) -> Json:
    function = {"name": answer.tools[block.tool], "arguments": block.text}
    call = f"call_{answer.number}_{block.tool}"
    return {"id": call, "type": "function", "function": function}


def _finish_reason(answer: Answer) -> str:
    return "length" if answer.cut else "tool_calls" if answer.tools else "stop"


def _u(answer: Answer) -> Json:
    return {
        "prompt_tokens": answer.input_tokens,
        "completion_tokens": len(answer.tokens),
        "total_tokens": answer.input_tokens + len(answer.tokens),
        "prompt_tokens_details": {"cached_tokens": answer.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": answer.count("thinking")},
    }


def chat_whole(answer: Answer) -> Json:
    """Give the completion that is sent without a stream."""
    message: Json = {
        "role": "assistant",
        "content": answer.text("text") or None,
        "refusal": answer.text("refusal") or None,
    }
    if calls := [_chat_call(answer, b) for b in answer.blocks if b.kind == "tool"]:
        message["tool_calls"] = calls
    choice = {"index": 0, "message": message, "logprobs": None}
    choice["finish_reason"] = _finish_reason(answer)
    return _chat_base(answer) | {"choices": [choice], "usage": _u(answer)}


def openai_error(status: int, message: str) -> Json:
    """Give the body of an error, also the one that comes in the middle of a stream."""
    kind, code = {
        400: ("invalid_request_error", None),
        401: ("invalid_request_error", "invalid_api_key"),
        404: ("invalid_request_error", "unknown_url"),
        429: ("requests", "rate_limit_exceeded"),
    }.get(status, ("server_error", None))
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def chat_failure(_: Answer, __: int) -> list[Event]:
    """Give the event of an error in the middle of a stream."""
    return [Event(openai_error(500, BROKE_OFF))]


# OpenAI Responses
# https://platform.openai.com/docs/api-reference/responses-streaming

# The names of the delta events, of the part's event, its index, its type, its field.
PARTS = {
    "text": ("output_text", "content_part", "content_index", "output_text", "text"),
    "refusal": ("refusal", "content_part", "content_index", "refusal", "refusal"),
    "thinking": (
        *("reasoning_summary_text", "reasoning_summary_part"),
        *("summary_index", "summary_text", "text"),
    ),
}


def responses_stream(answer: Answer) -> Iterator[Event]:
    """Give the semantic events, numbered."""
    for number, (kind, data, token) in enumerate(_responses_events(answer)):
        kind = f"response.{kind}"
        data = {"type": kind, **data, "sequence_number": number}
        yield Event(data, kind, token)


def _responses_events(answer: Answer) -> Iterator[tuple[str, Json, bool]]:
    for kind in ("created", "in_progress"):
        yield kind, {"response": _response(answer, "in_progress")}, False
    for block in answer.blocks:
        place = {"output_index": block.index}
        item = _item(answer, block, "in_progress")
        yield "output_item.added", {**place, "item": item}, False
        place["item_id"] = item["id"]
        name, part, field = "function_call_arguments", "", "arguments"
        if block.kind != "tool":
            name, part, index, _, field = PARTS[block.kind]
            place[index] = 0
            yield f"{part}.added", {**place, "part": _part(block.kind, "")}, False
        more: Json = {"logprobs": []} if block.kind == "text" else {}
        for token in block.tokens:
            yield f"{name}.delta", {**place, "delta": token.text, **more}, True
        yield f"{name}.done", {**place, field: block.text, **more}, False
        if part:
            whole = {**place, "part": _part(block.kind, block.text)}
            yield f"{part}.done", whole, False
        place = {"output_index": block.index}
        item = _item(answer, block, "completed")
        yield "output_item.done", {**place, "item": item}, False
    status = "incomplete" if answer.cut else "completed"
    yield status, {"response": _response(answer, status)}, False


def _part(kind: str, text: str) -> Json:
    *_, type_, field = PARTS[kind]
    more: Json = {"annotations": [], "logprobs": []} if kind == "text" else {}
    return {"type": type_, field: text, **more}


def _item(answer: Answer, block: Block, status: str) -> Json:
    done = status != "in_progress"
    end = f"{answer.number}_{block.index}"
    if block.kind == "tool":
        return {
            "id": f"fc_{end}",
            "type": "function_call",
            "status": status,
            "call_id": f"call_{answer.number}_{block.tool}",
            "name": answer.tools[block.tool],
            "arguments": block.text if done else "",
        }
    parts = [_part(block.kind, block.text)] if done else []
    if block.kind == "thinking":
        return {"id": f"rs_{end}", "type": "reasoning", "summary": parts}
    rest = {"status": status, "role": "assistant", "content": parts}
    return {"id": f"msg_{end}", "type": "message", **rest}


def _response(answer: Answer, status: str) -> Json:
    done = status in {"completed", "incomplete"}
    last = len(answer.blocks) - 1 if answer.cut else -1
    items = [
        _item(answer, b, "incomplete" if b.index == last else "completed")
        for b in answer.blocks
    ]
    usage = {
        "input_tokens": answer.input_tokens,
        "input_tokens_details": {
            "cached_tokens": answer.cached_tokens,
            "cache_write_tokens": 0,
        },
        "output_tokens": len(answer.tokens),
        "output_tokens_details": {"reasoning_tokens": answer.count("thinking")},
        "total_tokens": answer.input_tokens + len(answer.tokens),
    }
    failed = {"code": "server_error", "message": BROKE_OFF}
    reason = {"reason": "max_output_tokens"}
    return {
        "id": f"resp_{answer.number}",
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "error": failed if status == "failed" else None,
        "incomplete_details": reason if status == "incomplete" else None,
        "instructions": None,
        "metadata": {},
        "model": answer.model,
        "output": items if done else [],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": usage if done else None,
    }


def responses_whole(answer: Answer) -> Json:
    """Give the response that is sent without a stream."""
    return _response(answer, "incomplete" if answer.cut else "completed")


def responses_failure(answer: Answer, sent: int) -> list[Event]:
    """Give the two events of an error in the middle of a stream."""
    error: Json = {"type": "error", "code": "server_error", "message": BROKE_OFF}
    error |= {"param": None, "sequence_number": sent}
    failed: Json = {"type": "response.failed", "response": _response(answer, "failed")}
    failed |= {"sequence_number": sent + 1}
    return [Event(error, "error"), Event(failed, "response.failed")]


# Anthropic Messages
# https://docs.anthropic.com/en/docs/build-with-claude/streaming


def messages_stream(answer: Answer) -> Iterator[Event]:
    """Give the events, each named by its type."""
    for data, token in _messages_events(answer):
        yield Event(data, data["type"] if data else "", token)


def _messages_events(answer: Answer) -> Iterator[tuple[Json | None, bool]]:
    yield {"type": "message_start", "message": _message(answer, [], None)}, False
    for block in answer.blocks:
        if block.kind == "refusal":
            # Claude says nothing: that it refuses is in the reason why it stopped.
            yield from [(None, True)] * len(block.tokens)
            continue
        at = {"index": block.index}
        start = {**at, "content_block": _content(answer, block, whole=False)}
        yield {"type": "content_block_start", **start}, False
        if block.index == 0:
            yield {"type": "ping"}, False
        kind, field = {
            "thinking": ("thinking_delta", "thinking"),
            "tool": ("input_json_delta", "partial_json"),
        }.get(block.kind, ("text_delta", "text"))
        for token in block.tokens:
            delta = {"type": kind, field: token.text}
            yield {"type": "content_block_delta", **at, "delta": delta}, True
            if answer.silences:
                yield {"type": "ping"}, False
        if block.kind == "thinking":
            delta = {"type": "signature_delta", "signature": SIGNATURE}
            yield {"type": "content_block_delta", **at, "delta": delta}, False
        yield {"type": "content_block_stop", **at}, False
    usage = {"output_tokens": len(answer.tokens)}
    yield {"type": "message_delta", "delta": _stop(answer), "usage": usage}, False
    yield {"type": "message_stop"}, False


def _stop(answer: Answer) -> Json:
    reason, details = "end_turn", None
    if answer.cut:
        reason = "max_tokens"
    elif answer.tools:
        reason = "tool_use"
    elif explanation := answer.text("refusal"):
        reason = "refusal"
        details = {"type": "refusal", "category": None, "explanation": explanation}
    return {"stop_reason": reason, "stop_sequence": None, "stop_details": details}


def _content(answer: Answer, block: Block, *, whole: bool) -> Json:
    text = block.text if whole else ""
    if block.kind == "thinking":
        signature = SIGNATURE if whole else ""
        return {"type": "thinking", "thinking": text, "signature": signature}
    if block.kind == "tool":
        call = f"toolu_{answer.number}_{block.tool}"
        head = {"type": "tool_use", "id": call, "name": answer.tools[block.tool]}
        return head | {"input": _arguments(text)}
    return {"type": "text", "text": text}


def _arguments(text: str) -> Json:
    """Read arguments; those that `max_tokens` cut short are nothing."""
    try:
        arguments: Json = json.loads(text)
    except ValueError:
        return {}
    return arguments


def _message(answer: Answer, content: list[Json], stop: Json | None) -> Json:
    return {
        "id": f"msg_{answer.number}",
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": content,
        **(stop or {"stop_reason": None, "stop_sequence": None, "stop_details": None}),
        "usage": {
            "input_tokens": answer.input_tokens - answer.cached_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": answer.cached_tokens,
            "output_tokens": len(answer.tokens) if stop else 1,
            "service_tier": "standard",
        },
    }


def messages_whole(answer: Answer) -> Json:
    """Give the message that is sent without a stream."""
    blocks = [b for b in answer.blocks if b.kind != "refusal"]
    content = [_content(answer, b, whole=True) for b in blocks]
    return _message(answer, content, _stop(answer))


def anthropic_error(status: int, message: str) -> Json:
    """Give the body of an error, also the one that comes in the middle of a stream."""
    kind = {
        400: "invalid_request_error",
        401: "authentication_error",
        404: "not_found_error",
        429: "rate_limit_error",
        529: "overloaded_error",
    }.get(status, "api_error")
    return {"type": "error", "error": {"type": kind, "message": message}}


def messages_failure(_: Answer, __: int) -> list[Event]:
    """Give the event of an error in the middle of a stream."""
    return [Event(anthropic_error(529, "Overloaded"), "error")]


FORMATS = {
    "/chat/completions": Format(
        chat_stream,
        chat_whole,
        openai_error,
        chat_failure,
        asked=AskedChat,
        request_id="x-request-id",
    ),
    "/responses": Format(
        responses_stream,
        responses_whole,
        openai_error,
        responses_failure,
        asked=AskedResponse,
        request_id="x-request-id",
    ),
    "/messages": Format(
        messages_stream,
        messages_whole,
        anthropic_error,
        messages_failure,
        asked=AskedMessage,
        request_id="request-id",
    ),
}


def models(names: Sequence[str], *, anthropic: bool) -> Json:
    """List models, as OpenAI or as Anthropic does."""
    if not anthropic:
        more = {"object": "model", "created": CREATED, "owned_by": "scripted"}
        return {"object": "list", "data": [{"id": name, **more} for name in names]}
    more = {"type": "model", "created_at": "2026-01-01T00:00:00Z"}
    more |= {"lifecycle": "active"}
    data = [{"id": name, "display_name": name, **more} for name in names]
    ends = {"first_id": names[0], "last_id": names[-1]}
    return {"data": data, "has_more": False, **ends}
