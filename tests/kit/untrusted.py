"""Say anything to an official SDK, as a provider may that is broken or hostile.

fake = below(openai, "AsyncOpenAI", monkeypatch)
fake.body = whole(*replaced(CHUNKS, (1, "choices"), 7))
"""

import copy
import json
from collections.abc import AsyncIterator, Iterator
from types import ModuleType
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from cookbook.llm.formats import chat
from cookbook.llm.formats.answer import Answer, Token

CANARY = "canary-0815"  # words that only the provider may know


class Fake:
    """A transport: what it says comes through the real SDK as if from the network."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.cuts: list[int] = []
        self.status = 200
        self.headers: dict[str, str] = {}
        self.error: Exception | None = None
        self.asked = 0
        self.key = ""
        self.question: dict[str, Any] = {}

    async def respond(self, request: httpx2.Request) -> httpx2.Response:
        """Answer one request."""
        self.asked += 1
        self.key = request.headers["authorization"]
        self.question = json.loads(request.content)
        return httpx2.Response(self.status, headers=self.headers, content=self.pieces())

    async def pieces(self) -> AsyncIterator[bytes]:
        """Give the body in pieces, then the error if there is one."""
        ends = sorted({min(cut, len(self.body)) for cut in self.cuts})
        for start, end in zip([0, *ends], [*ends, len(self.body)], strict=True):
            yield self.body[start:end]
        if self.error:
            raise self.error


def below(
    sdk: ModuleType, client: str, monkeypatch: pytest.MonkeyPatch, body: bytes = b""
) -> Fake:
    """Put a fake network below every client that the SDK makes from now on."""
    transport = Fake(body)
    original = getattr(sdk, client)

    def make(**options: object) -> object:
        mock = httpx2.MockTransport(lambda request: transport.respond(request))
        made = original(**options, http_client=httpx2.AsyncClient(transport=mock))
        made._platform = "Unknown"  # It would take a thread to find out.
        return made

    monkeypatch.setattr(sdk, client, make)
    return transport


# Chat completions

# One good answer: a role, two tokens, a reason, the usage.
CHUNKS: list[dict[str, Any]] = [
    event.data
    for event in chat.stream(
        Answer(1, "ok", [Token("text", "Tea"), Token("refusal", " is")], usage=True)
    )
    if isinstance(event.data, dict)
]


def framed(*chunks: object) -> bytes:
    """Write chunks as the provider does, but without its last event."""
    return b"".join(b"data: %s\n\n" % json.dumps(chunk).encode() for chunk in chunks)


def whole(*chunks: object) -> bytes:
    """Write chunks and the provider's last event."""
    return framed(*chunks) + b"data: [DONE]\n\n"


# Any JSON


def paths(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """List the paths to all values inside a JSON value; its own is empty."""
    yield path
    items = value.items() if isinstance(value, dict) else ()
    for key, inner in items or enumerate(value if isinstance(value, list) else []):
        yield from paths(inner, (*path, key))


def replaced(value: Any, path: tuple[Any, ...], new: object) -> Any:  # noqa: ANN401 - JSON
    """Give a JSON value with another value at the path; `...` takes it away."""
    if not path:
        return None if new is ... else new
    result = copy.deepcopy(value)
    inner = result
    for key in path[:-1]:
        inner = inner[key]
    if new is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = new
    return result


TEXT = st.text(st.characters(), max_size=5) | st.sampled_from(
    ["\ud83d", "a\udc00b", "\r\nevent: done\n\n", "\0", "x" * 1_000_001, ""]
)
NUMBERS = st.sampled_from([0, 5, -1, 1.5, 10**400, float("nan"), float("inf")])
LEAVES = st.none() | st.booleans() | NUMBERS | st.integers() | TEXT
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2)
    ),
    max_leaves=5,
)


def tries(number: int) -> settings:
    """Try so many examples, in `make check` a fifth; one `fake` may serve them all."""
    if settings.get_current_profile_name() == "fast":
        number //= 5
    shared = [HealthCheck.function_scoped_fixture]
    return settings(max_examples=number, suppress_health_check=shared)
