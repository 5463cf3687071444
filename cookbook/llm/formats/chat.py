"""OpenAI chat completions.

https://platform.openai.com/docs/api-reference/chat-streaming
"""

from collections.abc import Iterator

from pydantic import AliasChoices, BaseModel, Field

from cookbook.llm.formats.answer import (
    BROKE_OFF,
    CREATED,
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

# What the request says


class Options(BaseModel):
    """The options of a stream."""

    include_usage: bool | None = None


class AskedChat(Asked):
    """A request for a chat completion; `max_tokens` is the old name of the limit."""

    messages: list[Json]
    stream_options: Options | None = None
    limit: Limit | None = Field(
        None, validation_alias=AliasChoices("max_completion_tokens", "max_tokens")
    )

    def wants_usage(self) -> bool:
        """Say whether the stream is to end with a count of the tokens."""
        if self.stream_options is None:
            return False
        return bool(self.stream_options.include_usage)


# What a stream and an answer in one piece have in common


def opening(answer: Answer, kind: str) -> Json:
    """Give the fields with which each object begins."""
    return {
        "id": f"chatcmpl-{answer.number}",
        "object": kind,
        "created": CREATED,
        "model": answer.model,
        "service_tier": "default",
        "system_fingerprint": "fp_scripted",
    }


def tool_call(answer: Answer, block: Block, arguments: str) -> Json:
    """Give a call of a tool; the arguments are JSON in a text."""
    return {
        "id": f"call_{answer.number}_{block.tool}",
        "type": "function",
        "function": {"name": answer.tools[block.tool], "arguments": arguments},
    }


def finish_reason(answer: Answer) -> str:
    """Say why the answer ends."""
    if answer.cut:
        return "length"
    if answer.tools:
        return "tool_calls"
    return "stop"


def usage(answer: Answer) -> Json:
    """Count the tokens; those of the thoughts are part of the completion."""
    return {
        "prompt_tokens": answer.input_tokens,
        "completion_tokens": len(answer.tokens),
        "total_tokens": answer.input_tokens + len(answer.tokens),
        "prompt_tokens_details": {"cached_tokens": answer.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": answer.count("thinking")},
    }


# The stream


def stream(answer: Answer) -> Iterator[Event]:
    """Give the chunks, one a token; thinking is silent here, but it is counted."""
    yield chunk(answer, first_delta(answer))
    for block in answer.blocks:
        if block.kind == "tool":
            call = tool_call(answer, block, arguments="")
            call["index"] = block.tool
            yield chunk(answer, {"tool_calls": [call]})
        for token in block.tokens:
            if token.kind == "thinking":
                yield SILENT
                continue
            yield chunk(answer, delta_of(token), token=True)
            if answer.silences:
                yield chunk(answer, {"content": None})
    yield chunk(answer, {}, finish_reason(answer))
    if answer.usage:
        yield usage_chunk(answer)
    yield Event("[DONE]")


def first_delta(answer: Answer) -> Json:
    """Give what comes before all tokens: the role, and no text yet."""
    content: str | None = ""
    if answer.tools and not answer.text("text"):
        content = None
    return {"role": "assistant", "content": content, "refusal": None}


def delta_of(token: Token) -> Json:
    """Give what one token adds to the message."""
    if token.kind == "tool":
        function = {"arguments": token.text}
        return {"tool_calls": [{"index": token.tool, "function": function}]}
    if token.kind == "refusal":
        return {"refusal": token.text}
    return {"content": token.text}


def chunk(
    answer: Answer, delta: Json, reason: str | None = None, *, token: bool = False
) -> Event:
    """Put a delta among the fields that each chunk has."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    data = opening(answer, "chat.completion.chunk")
    data["choices"] = [choice]
    if answer.usage:
        data["usage"] = None  # Only the last chunk of the stream has a value.
    return Event(data, token=token)


def usage_chunk(answer: Answer) -> Event:
    """Give the last chunk, which has the count and no choice."""
    data = opening(answer, "chat.completion.chunk")
    data["choices"] = []
    data["usage"] = usage(answer)
    return Event(data)


# The answer in one piece


def whole(answer: Answer) -> Json:
    """Give the completion that is sent without a stream."""
    message: Json = {
        "role": "assistant",
        "content": answer.text("text") or None,
        "refusal": answer.text("refusal") or None,
    }
    blocks = [block for block in answer.blocks if block.kind == "tool"]
    if blocks:
        calls = [tool_call(answer, block, arguments=block.text) for block in blocks]
        message["tool_calls"] = calls
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": finish_reason(answer),
    }
    data = opening(answer, "chat.completion")
    data["choices"] = [choice]
    data["usage"] = usage(answer)
    return data


# Errors

KINDS = {
    400: "invalid_request_error",
    401: "invalid_request_error",
    404: "invalid_request_error",
    429: "requests",
}
CODES = {401: "invalid_api_key", 404: "unknown_url", 429: "rate_limit_exceeded"}


def error(status: int, message: str) -> Json:
    """Give the body of an error; OpenAI has the same one for Responses."""
    kind = KINDS.get(status, "server_error")
    code = CODES.get(status)
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def failure(_answer: Answer, _sent: int) -> list[Event]:
    """Give the event of an error in the middle of a stream; its data is that body."""
    return [Event(error(500, BROKE_OFF))]


FORMAT = Format(
    stream,
    whole,
    error,
    failure,
    AskedChat,
    request_id="x-request-id",
    delta="",
)
