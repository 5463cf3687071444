"""docs/pitfalls/around.md: the server breaks the schema of its own stream."""

import pytest
from fastapi import FastAPI
from pydantic import ValidationError

from recipes import typed_client
from recipes.pitfalls.typed_client import unchecked_data as wrong
from tests.kit import sse
from tests.kit.asgi import drive


def sent_by(app: FastAPI) -> list[str]:
    """Give the data of each event."""
    events = sse.parse([drive(app, "/orders/7/events").body]).events
    return [event.data for event in events]


def test_fastapi_sends_what_the_schema_of_the_endpoint_forbids() -> None:
    schemas = [
        a.openapi()["components"]["schemas"] for a in (wrong.app, typed_client.app)
    ]
    assert schemas[0] == schemas[1]
    (data,) = sent_by(wrong.app)
    with pytest.raises(ValidationError, match="expected"):
        typed_client.OrderEvent.model_validate_json(data)


def test_what_is_made_as_a_model_keeps_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typed_client, "PAUSE", 0)
    found = sent_by(typed_client.app)
    events = [typed_client.OrderEvent.model_validate_json(data) for data in found]
    assert events == typed_client.EVENTS
    with pytest.raises(ValidationError, match="expected"):
        typed_client.Shipped.model_validate({"carrier": "Snail", "expected": "soon"})
