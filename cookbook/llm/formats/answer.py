"""An answer, before a vendor's format gives it a shape; and what all formats share.

answer = Answer(1, "ok", [Token("text", "Tea"), Token("text", " is hot.")])
for event in FORMATS["/chat/completions"].stream(answer):
    body += frame(event)
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, Field

Json = dict[str, Any]
Kind = Literal["thinking", "text", "refusal", "tool"]
Limit = Annotated[int, Field(ge=1)]  # tokens

CREATED = 1_767_225_600  # s since 1970: always the same, as transcripts are compared
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


@dataclass(frozen=True)
class Answer:
    """What is to be said; `number` goes into the ids, so that they are always the same.

    `tools` are the names of the tools that are called. `cut` says that there was more
    to say than the request allows, `silences` that after each token something comes
    that carries no text. `usage` says that a stream of chat completions ends with a
    count. `input_tokens` counts all tokens of the question, also those that came out of
    the cache.
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
        blocks: list[Block] = []
        for key, tokens in groupby(self.tokens, lambda token: (token.kind, token.tool)):
            kind, tool = key
            blocks.append(Block(len(blocks), kind, tool, list(tokens)))
        return blocks

    def text(self, kind: Kind) -> str:
        """Join the tokens of one kind."""
        return "".join(token.text for token in self.tokens if token.kind == kind)

    def count(self, kind: Kind) -> int:
        """Count the tokens of one kind."""
        return sum(token.kind == kind for token in self.tokens)


class Event(NamedTuple):
    """One event: JSON, or text as it stands, or None for what makes no sound.

    `token` marks the events before which the model has to make a token.
    """

    data: Json | str | None
    name: str = ""
    token: bool = False


SILENT = Event(None, token=True)  # a token that costs time and is not sent


class Asked(BaseModel):
    """What is read of a request; `limit` is how many tokens it allows."""

    model: str
    stream: bool | None = None
    limit: Limit | None = None

    def wants_usage(self) -> bool:
        """Say whether a stream of chat completions is to end with a count."""
        return False


class Format(NamedTuple):
    """How one vendor puts an answer, and an error, into events and JSON.

    `stream` gives the events of an answer, `whole` the body of one that is not
    streamed. `error` gives the body of a response with this status and message, and
    `failure` the events of an error after so many events of a stream. `asked` reads a
    request, and `request_id` is the header that names it. `delta` is the name of an
    event with text, "" if events have no names.
    """

    stream: Callable[[Answer], Iterator[Event]]
    whole: Callable[[Answer], Json]
    error: Callable[[int, str], Json]
    failure: Callable[[Answer, int], list[Event]]
    asked: type[Asked]
    request_id: str
    delta: str


def dumps(data: object) -> str:
    """Write JSON as the vendors do: compact, and with all letters as they are."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def frame(event: Event, end: str = "\n") -> bytes:
    """Write an event as Server-Sent Events; `end` ends its lines."""
    data = event.data
    if not isinstance(data, str):
        data = dumps(data)
    text = ""
    if event.name:
        text += f"event: {event.name}{end}"
    text += f"data: {data}{end}{end}"
    return text.encode()
