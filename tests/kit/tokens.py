"""See how three wire formats say the same, and what their SDKs make of failures.

python -m tests.kit.tokens     writes docs/learn/tokens_on_the_wire.txt
"""

import asyncio
import json
import os
import re
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import anthropic
import httpx2
import openai

from cookbook.catalog import ROOT
from cookbook.llm import scripted
from recipes import llm_anthropic
from tests.kit import docs, sse
from tests.kit.asgi import drive

TABLE = ROOT / "docs/learn/tokens_on_the_wire.txt"
SILENT = 0.3  # seconds that an SDK waits for a provider that says nothing
ANSWER = """
[ok]
about = "Thoughts, text and a call of a tool"
thinking = ["Hot", " water"]
tokens = ["Tea", " is"]
input_tokens = 12

[[ok.tools]]
name = "get_order"
arguments = ['{"id": ', '42}']
"""
HEAD = ["OpenAI chat", "OpenAI Responses", "Anthropic Messages"]


class Rule(NamedTuple):
    """What an event says, by its type and a field of it; a chat's have no type."""

    row: str
    kind: str
    field: str


BEGINS, OPENS, CLOSES = "the answer begins", "a part begins", "a part ends"
THOUGHT, TOKEN = "a thought", "a token"
CALL, SHARD = "a tool is called", "a shard of its arguments"
PING, WHY, COST = "nothing: a sign of life", "why it ended", "the usage"
END = "the end"
ROWS = [BEGINS, OPENS, PING, THOUGHT, TOKEN, CALL, SHARD, CLOSES, WHY, COST, END]

DELTA = "choices[0].delta"
CALLED = f"{DELTA}.tool_calls[0]"
CHAT = [
    Rule(COST, "", "usage.completion_tokens"),
    Rule(WHY, "", "choices[0].finish_reason"),
    Rule(BEGINS, "", f"{DELTA}.role"),
    Rule(CALL, "", f"{CALLED}.function.name"),
    Rule(SHARD, "", f"{CALLED}.function.arguments"),
    Rule(TOKEN, "", f"{DELTA}.content"),
    Rule(END, "[DONE]", ""),
]
RESPONSES = [
    Rule(BEGINS, "response.created", ""),
    Rule(BEGINS, "response.in_progress", ""),
    Rule(CALL, "response.output_item.added", "item.name"),
    Rule(OPENS, "response.output_item.added", "item.type"),
    Rule(OPENS, "response.content_part.added", "part.type"),
    Rule(OPENS, "response.reasoning_summary_part.added", "part.type"),
    Rule(THOUGHT, "response.reasoning_summary_text.delta", "delta"),
    Rule(TOKEN, "response.output_text.delta", "delta"),
    Rule(SHARD, "response.function_call_arguments.delta", "delta"),
    Rule(CLOSES, "response.reasoning_summary_text.done", ""),
    Rule(CLOSES, "response.reasoning_summary_part.done", ""),
    Rule(CLOSES, "response.output_text.done", ""),
    Rule(CLOSES, "response.content_part.done", ""),
    Rule(CLOSES, "response.function_call_arguments.done", ""),
    Rule(CLOSES, "response.output_item.done", ""),
    Rule(WHY, "response.completed", "response.status"),
    Rule(COST, "response.completed", "response.usage.output_tokens"),
]
MESSAGES = [
    Rule(BEGINS, "message_start", "message.role"),
    Rule(COST, "message_start", "message.usage.input_tokens"),
    Rule(CALL, "content_block_start", "content_block.name"),
    Rule(OPENS, "content_block_start", "content_block.type"),
    Rule(PING, "ping", ""),
    Rule(THOUGHT, "content_block_delta", "delta.thinking"),
    Rule(TOKEN, "content_block_delta", "delta.text"),
    Rule(SHARD, "content_block_delta", "delta.partial_json"),
    Rule(CLOSES, "content_block_delta", "delta.signature"),
    Rule(CLOSES, "content_block_stop", ""),
    Rule(WHY, "message_delta", "delta.stop_reason"),
    Rule(COST, "message_delta", "usage.output_tokens"),
    Rule(END, "message_stop", ""),
]
# One event may say two things.
BOTH = {"message_start", "message_delta", "response.completed"}
FORMATS: dict[str, tuple[list[Rule], dict[str, Any]]] = {
    "/chat/completions": (CHAT, {"messages": [], "stream_options": {}}),
    "/responses": (RESPONSES, {"input": ""}),
    "/messages": (MESSAGES, {"messages": [], "max_tokens": 99}),
}


def look_up(data: object, path: str) -> object:
    """Follow a path into JSON; None where it leads nowhere."""
    for step in re.findall(r"\w+", path):
        try:
            data = cast(Any, data)[int(step) if step.isdigit() else step]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def said(event: sse.Event, rules: list[Rule]) -> Iterator[tuple[str, str]]:
    """Say which rows of the table an event belongs to, and what stands there.

    Raises ValueError if no rule knows it.
    """
    data = event.data if event.data.startswith("[") else json.loads(event.data)
    kind = data if isinstance(data, str) else data.get("type", "")
    found = False
    for rule in rules:
        value = look_up(data, rule.field)
        if rule.kind != kind or (rule.field and value is None):
            continue
        found = True
        name = kind.removeprefix("response.") or rule.field.removeprefix("choices[0].")
        field = rule.field if rule.field.startswith("delta.") else ""
        shown = json.dumps(value, ensure_ascii=False) if rule.field else ""
        yield rule.row, " ".join(f"`{part}`" for part in (name, field, shown) if part)
        if kind not in BOTH:
            return
    if not found:
        raise ValueError(f"no rule knows {event.data}")


def recorded(url: str, path: str, more: dict[str, Any]) -> list[sse.Event]:
    """Ask as an SDK does, and give the events that came."""
    body = {"model": "ok", "stream": True, **more}
    if "stream_options" in more:
        body["stream_options"] = {"include_usage": True}
    answer = httpx2.post(f"{url}/v1{path}", json=body).raise_for_status()
    return sse.parse([answer.content]).events


def answers(url: str) -> str:
    """Write what each of the formats sends for the same answer."""
    columns = []
    for path, (rules, more) in FORMATS.items():
        cells: dict[str, list[str]] = {row: [] for row in ROWS}
        for event in recorded(url, path, more):
            for row, cell in said(event, rules):
                if cell not in cells[row]:
                    cells[row].append(cell)
        columns.append(cells)
    rows = [[row, *("<br>".join(cells[row]) for cells in columns)] for row in ROWS]
    return docs.table(["what is said", *HEAD], rows)


# The same failures, as the SDKs tell them

FAILURES = {
    "an error event in the middle": "overloaded-midstream",
    "a connection that is reset": "reset",
    "silence for longer than the limit": "stall-after-first",
    "an end after two tokens, as if they were all": "truncated",
    "a complete answer": "ok",
}
Ask = Callable[[str], Coroutine[Any, Any, list[Any]]]


async def by_chat(url: str, model: str) -> list[Any]:
    """Ask for chat completions, and give the chunks."""
    async with (
        openai.AsyncOpenAI(
            api_key="any", base_url=f"{url}/v1", timeout=SILENT, max_retries=0
        ) as client,
        await client.chat.completions.create(
            model=model, messages=[], stream=True
        ) as chunks,
    ):
        return [chunk async for chunk in chunks]


async def by_responses(url: str, model: str) -> list[Any]:
    """Ask the Responses API, and give the events."""
    async with (
        openai.AsyncOpenAI(
            api_key="any", base_url=f"{url}/v1", timeout=SILENT, max_retries=0
        ) as client,
        await client.responses.create(model=model, input="", stream=True) as events,
    ):
        return [event async for event in events]


async def by_messages(url: str, model: str) -> list[Any]:
    """Ask for a message, and give the events."""
    async with (
        anthropic.AsyncAnthropic(
            api_key="any", base_url=url, timeout=SILENT, max_retries=0
        ) as client,
        await client.messages.create(
            model=model, messages=[], max_tokens=99, stream=True
        ) as events,
    ):
        return [event async for event in events]


def outcome(ask: Ask, model: str) -> str:
    """Say what an SDK raises; if it raises nothing, say what came last."""
    try:
        *_, last = asyncio.run(ask(model))
    except Exception as error:  # Which one it is, is what we ask.
        package = type(error).__module__.partition(".")[0]
        told = f"`{package}.{type(error).__name__}`"
        status, kind = getattr(error, "status_code", None), getattr(error, "type", None)
        return told + (f", `status_code` {status}, `type` `{kind}`" if status else "")
    if choices := getattr(last, "choices", None):
        end = f"`finish_reason` is `{json.dumps(choices[0].finish_reason)}`"
    else:
        end = f"the last event is `{last.type}`"
    return f"raises nothing; {end}"


def failures(url: str) -> str:
    """Write what each of the SDKs does when an answer breaks off."""
    ways = [partial(way, url) for way in (by_chat, by_responses, by_messages)]
    rows = [
        [name, *(outcome(way, model) for way in ways)]
        for name, model in FAILURES.items()
    ]
    return docs.table(["the provider's stream", *HEAD], rows)


# What the recipe makes of thoughts and tools


@contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """Set variables until the block ends."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def told(model: str, provider: scripted.Provider) -> str:
    """Give what curl prints of the recipe's answer."""
    provider.reset()
    with environment({**provider.env, "ANTHROPIC_MODEL": model}):
        return drive(llm_anthropic.app, "/answer?prompt=x").body.decode()


def text() -> str:
    """Write all of it, a section each."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scenarios.toml"
        file.write_text(ANSWER, "utf-8")
        with scripted.running(file, pace=0) as provider:
            sections = {"answer": answers(provider.url)}
    with scripted.running(pace=0) as provider:
        sections["failures"] = failures(provider.url)
        sections["thinking"] = told("thinking", provider)
        sections["tool"] = told("tool-arguments", provider)
    return "".join(
        f"--8<-- [start:{name}]\n{body}--8<-- [end:{name}]\n"
        for name, body in sections.items()
    )


if __name__ == "__main__":
    TABLE.write_text(text(), "utf-8")
