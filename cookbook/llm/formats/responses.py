"""OpenAI Responses.

https://platform.openai.com/docs/api-reference/responses-streaming
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import Field

from cookbook.llm.formats import chat
from cookbook.llm.formats.answer import (
    BROKE_OFF,
    CREATED,
    Answer,
    Asked,
    Block,
    Event,
    Format,
    Json,
    Limit,
)

# What the request says


class AskedResponse(Asked):
    """A request for a response."""

    input: str | list[Json]
    limit: Limit | None = Field(None, alias="max_output_tokens")


# The output: a list of items, one a block of tokens


@dataclass(frozen=True)
class Names:
    """How the items of one kind call what is in them.

    `delta` is in the names of the events that carry tokens, `part` in those that open
    and close a part of the item. `index` is the field with the part's place, `type` the
    part's type, and `field` the one that holds its text.
    """

    delta: str
    part: str
    index: str
    type: str
    field: str


NAMES = {
    "text": Names(
        delta="output_text",
        part="content_part",
        index="content_index",
        type="output_text",
        field="text",
    ),
    "refusal": Names(
        delta="refusal",
        part="content_part",
        index="content_index",
        type="refusal",
        field="refusal",
    ),
    "thinking": Names(
        delta="reasoning_summary_text",
        part="reasoning_summary_part",
        index="summary_index",
        type="summary_text",
        field="text",
    ),
}


def part(block: Block, text: str) -> Json:
    """Give the one part that an item of ours has, with this text."""
    names = NAMES[block.kind]
    data: Json = {"type": names.type, names.field: text}
    if block.kind == "text":
        data["annotations"] = []
        data["logprobs"] = []
    return data


def item_id(answer: Answer, block: Block) -> str:
    """Name an item; the first letters say what it is."""
    prefix = {"tool": "fc", "thinking": "rs"}.get(block.kind, "msg")
    return f"{prefix}_{answer.number}_{block.index}"


def item(answer: Answer, block: Block, status: str) -> Json:
    """Give an item; as long as it is in progress it is empty."""
    done = status != "in_progress"
    if block.kind == "tool":
        return {
            "id": item_id(answer, block),
            "type": "function_call",
            "status": status,
            "call_id": f"call_{answer.number}_{block.tool}",
            "name": answer.tools[block.tool],
            "arguments": block.text if done else "",
        }
    parts = [part(block, block.text)] if done else []
    if block.kind == "thinking":
        return {"id": item_id(answer, block), "type": "reasoning", "summary": parts}
    return {
        "id": item_id(answer, block),
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": parts,
    }


def items(answer: Answer) -> list[Json]:
    """Give all items at the end; the last one is incomplete if the answer is cut."""
    output = [item(answer, block, "completed") for block in answer.blocks]
    if answer.cut and output:
        output[-1] = item(answer, answer.blocks[-1], "incomplete")
    return output


def usage(answer: Answer) -> Json:
    """Count the tokens; those of the thoughts are part of the output."""
    return {
        "input_tokens": answer.input_tokens,
        "input_tokens_details": {
            "cached_tokens": answer.cached_tokens,
            "cache_write_tokens": 0,
        },
        "output_tokens": len(answer.tokens),
        "output_tokens_details": {"reasoning_tokens": answer.count("thinking")},
        "total_tokens": answer.input_tokens + len(answer.tokens),
    }


def response(answer: Answer, status: str) -> Json:
    """Give the whole response; what it says comes with the end."""
    data: Json = {
        "id": f"resp_{answer.number}",
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": answer.model,
        "output": [],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": None,
    }
    if status == "failed":
        data["error"] = {"code": "server_error", "message": BROKE_OFF}
    if status == "incomplete":
        data["incomplete_details"] = {"reason": "max_output_tokens"}
    if status in {"completed", "incomplete"}:
        data["output"] = items(answer)
        data["usage"] = usage(answer)
    return data


# The stream


def stream(answer: Answer) -> Iterator[Event]:
    """Give the semantic events, numbered; those with a token end in `.delta`."""
    for number, data in enumerate(events(answer)):
        data["sequence_number"] = number
        name = data["type"]
        yield Event(data, name, token=name.endswith(".delta"))


def events(answer: Answer) -> Iterator[Json]:
    """Give the events in their order."""
    yield opened("response.created", answer)
    yield opened("response.in_progress", answer)
    for block in answer.blocks:
        yield {
            "type": "response.output_item.added",
            "output_index": block.index,
            "item": item(answer, block, "in_progress"),
        }
        if block.kind == "tool":
            yield from tool_events(answer, block)
        else:
            yield from text_events(answer, block)
        yield {
            "type": "response.output_item.done",
            "output_index": block.index,
            "item": item(answer, block, "completed"),
        }
    last = whole(answer)
    yield {"type": f"response.{last['status']}", "response": last}


def opened(kind: str, answer: Answer) -> Json:
    """Give one of the events before all items."""
    return {"type": kind, "response": response(answer, "in_progress")}


def tool_events(answer: Answer, block: Block) -> Iterator[Json]:
    """Give the arguments of a call, token by token and then whole."""
    place = {"output_index": block.index, "item_id": item_id(answer, block)}
    name = "response.function_call_arguments"
    for token in block.tokens:
        yield {"type": f"{name}.delta", **place, "delta": token.text}
    yield {"type": f"{name}.done", **place, "arguments": block.text}


def text_events(answer: Answer, block: Block) -> Iterator[Json]:
    """Give a part of text, token by token and then whole."""
    names = NAMES[block.kind]
    place: Json = {"output_index": block.index, "item_id": item_id(answer, block)}
    place[names.index] = 0
    more: Json = {"logprobs": []} if block.kind == "text" else {}
    delta = f"response.{names.delta}"
    yield {"type": f"response.{names.part}.added", **place, "part": part(block, "")}
    for token in block.tokens:
        yield {"type": f"{delta}.delta", **place, "delta": token.text, **more}
    yield {"type": f"{delta}.done", **place, names.field: block.text, **more}
    full = part(block, block.text)
    yield {"type": f"response.{names.part}.done", **place, "part": full}


# The answer in one piece


def whole(answer: Answer) -> Json:
    """Give the response that is sent without a stream."""
    return response(answer, "incomplete" if answer.cut else "completed")


# Errors; the body of one is that of chat completions


def failure(answer: Answer, sent: int) -> list[Event]:
    """Give the two events of an error after so many events of a stream."""
    error = {
        "type": "error",
        "code": "server_error",
        "message": BROKE_OFF,
        "param": None,
        "sequence_number": sent,
    }
    failed = {
        "type": "response.failed",
        "response": response(answer, "failed"),
        "sequence_number": sent + 1,
    }
    return [Event(error, "error"), Event(failed, "response.failed")]


FORMAT = Format(
    stream,
    whole,
    chat.error,
    failure,
    AskedResponse,
    request_id="x-request-id",
    delta="response.output_text.delta",
)
