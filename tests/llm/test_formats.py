"""The wire formats of the scripted provider, against the official SDKs' own types."""

import http.client
import json
from collections.abc import Iterator
from functools import cache
from typing import Any, get_args

import anthropic.types
import openai.types
import pytest
from anthropic.types.shared import ErrorResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import (
    Response,
    ResponseErrorEvent,
    ResponseFailedEvent,
    ResponseStreamEvent,
)
from openai.types.shared import ErrorObject
from pydantic import BaseModel, TypeAdapter, ValidationError

from cookbook.llm import scripted
from cookbook.llm.formats import (
    FORMATS,
    anthropic_models,
    chat,
    messages,
    openai_models,
)
from cookbook.llm.formats.answer import Answer
from tests.kit import sse

CHAT, RESPONSES, MESSAGES = FORMATS
SCENARIOS = scripted.load()
HEALTHY = [
    n for n, s in SCENARIOS.items() if not s.status and not s.fault and not s.raw
]
ASK: dict[str, Any] = {
    CHAT: {"messages": [{"role": "user", "content": "Why is tea hot?"}]},
    RESPONSES: {"input": "Why is tea hot?"},
    MESSAGES: {"messages": [{"role": "user", "content": "Hot?"}], "max_tokens": 5000},
}
WHOLE = {CHAT: ChatCompletion, RESPONSES: Response, MESSAGES: anthropic.types.Message}


def by_type(union: Any) -> dict[str, type[BaseModel]]:  # noqa: ANN401 - it is a union
    """Find each class of a union by the constant that its field `type` has."""
    classes = get_args(get_args(union)[0])
    return {get_args(c.model_fields["type"].annotation)[0]: c for c in classes}


EVENTS = {
    RESPONSES: by_type(ResponseStreamEvent),
    MESSAGES: by_type(anthropic.types.RawMessageStreamEvent),
}


@cache
def adapter(kind: type) -> TypeAdapter[Any]:
    """Build what reads a type; that takes longer than to read a thousand events."""
    return TypeAdapter(kind)


def strictly(kind: type, data: str) -> Any:  # noqa: ANN401 - it is what `kind` says
    """Read JSON as the SDK's type; neither more nor fewer fields, nor other values."""
    made = adapter(kind).validate_json(data, strict=True)
    assert list(unknown(made)) == []
    return made


def unknown(value: object, path: str = "") -> Iterator[str]:
    """Name the fields that the SDK does not know; it keeps them without a word."""
    if isinstance(value, BaseModel):
        yield from (f"{path}.{name}" for name in value.model_extra or {})
        for name in type(value).model_fields:
            yield from unknown(getattr(value, name), f"{path}.{name}")
    elif isinstance(value, list):
        for item in value:
            yield from unknown(item, f"{path}[]")


@pytest.fixture(scope="module")
def provider() -> Iterator[scripted.Provider]:
    with scripted.running(pace=0) as running:
        yield running


def post(provider: scripted.Provider, place: str, model: str, **more: object) -> bytes:
    """Ask without an SDK, and give the whole body."""
    address = provider.url.removeprefix("http://")
    client = http.client.HTTPConnection(address, timeout=scripted.WAIT)
    body = json.dumps({"model": model, **ASK[place], **more})
    client.request("POST", f"/v1{place}", body)
    try:
        return client.getresponse().read()
    finally:
        client.close()


def text_of(place: str, event: Any) -> str:  # noqa: ANN401 - of any format
    """Give the piece of the answer's text that an event carries."""
    if place == CHAT:
        return "".join(choice.delta.content or "" for choice in event.choices)
    if place == RESPONSES:
        return str(event.delta) if event.type == "response.output_text.delta" else ""
    if event.type != "content_block_delta":
        return ""
    return getattr(event.delta, "text", "")


@pytest.mark.parametrize("place", FORMATS)
@pytest.mark.parametrize("name", HEALTHY)
def test_every_event_of_a_stream_is_what_the_sdk_expects(
    provider: scripted.Provider, name: str, place: str
) -> None:
    provider.go(1000)
    options = {"stream_options": {"include_usage": True}} if place == CHAT else {}
    body = post(provider, place, name, stream=True, **options)
    events = sse.parse([body]).events
    if place == CHAT:
        assert {event.event for event in events} == {"message"}
        assert events.pop().data == "[DONE]"
    text = ""
    for event in events:
        if event.data == '{"type":"ping"}':
            continue  # The SDK drops it and has no type for it.
        kind: type = ChatCompletionChunk
        if place != CHAT:
            assert event.event == json.loads(event.data)["type"]
            kind = EVENTS[place][event.event]
        text += text_of(place, strictly(kind, event.data))
    said = SCENARIOS[name].said()
    assert text == "".join(token.text for token in said if token.kind == "text")


@pytest.mark.parametrize("place", FORMATS)
@pytest.mark.parametrize("name", HEALTHY)
def test_an_answer_in_one_piece_is_what_the_sdk_expects(
    provider: scripted.Provider, name: str, place: str
) -> None:
    provider.go(1000)
    strictly(WHOLE[place], post(provider, place, name).decode())


@pytest.mark.parametrize("place", FORMATS)
def test_an_answer_cut_short_is_what_the_sdk_expects(
    provider: scripted.Provider, place: str
) -> None:
    limit = FORMATS[place].asked.model_fields["limit"].alias or "max_tokens"
    body = post(provider, place, "tool-arguments", **{limit: 6})
    strictly(WHOLE[place], body.decode())


def test_errors_in_mid_stream_are_what_the_sdks_expect(
    provider: scripted.Provider,
) -> None:
    last = {
        place: [
            event.data
            for event in sse.parse(
                [post(provider, place, "overloaded-midstream", stream=True)]
            ).events
        ]
        for place in FORMATS
    }
    strictly(ErrorObject, json.dumps(json.loads(last[CHAT][-1])["error"]))
    strictly(ResponseErrorEvent, last[RESPONSES][-2])
    strictly(ResponseFailedEvent, last[RESPONSES][-1])
    strictly(ErrorResponse, last[MESSAGES][-1])


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 529])
def test_bodies_of_refusals_are_what_the_sdks_expect(status: int) -> None:
    strictly(ErrorObject, json.dumps(chat.error(status, "No.")["error"]))
    strictly(ErrorResponse, json.dumps(messages.error(status, "No.")))


def test_the_list_of_models_is_what_each_sdk_expects() -> None:
    for model in openai_models(["ok"])["data"]:
        strictly(openai.types.Model, json.dumps(model))
    for model in anthropic_models(["ok"])["data"]:
        strictly(anthropic.types.ModelInfo, json.dumps(model))


def test_numbers_of_responses_events_have_no_gap(provider: scripted.Provider) -> None:
    body = post(provider, RESPONSES, "overloaded-midstream", stream=True)
    numbers = [
        json.loads(event.data)["sequence_number"] for event in sse.parse([body]).events
    ]
    assert numbers == list(range(len(numbers)))


def test_a_field_that_an_sdk_does_not_know_is_noticed() -> None:
    chunk = next(chat.stream(Answer(1, "ok", []))).data
    assert isinstance(chunk, dict)
    chunk["choices"][0]["delta"]["contents"] = ""
    with pytest.raises(AssertionError, match=r"\.choices\[\]\.delta\.contents"):
        strictly(ChatCompletionChunk, json.dumps(chunk))


def test_a_field_that_an_sdk_misses_is_noticed() -> None:
    chunk = next(chat.stream(Answer(1, "ok", []))).data
    assert isinstance(chunk, dict)
    del chunk["created"]
    with pytest.raises(ValidationError, match="created"):
        strictly(ChatCompletionChunk, json.dumps(chunk))
