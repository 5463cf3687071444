"""docs/pitfalls/around.md: the generated type of my event stream is unknown."""

import pytest
from fastapi import FastAPI

from recipes import typed_client
from recipes.pitfalls.typed_client import model_not_told as wrong
from tests.kit.asgi import drive

PATH = "/orders/{order_id}/events"


@pytest.mark.parametrize(
    ("app", "right"), [(wrong.app, False), (typed_client.app, True)]
)
def test_the_models_of_the_events_are_not_in_the_schema(
    app: FastAPI, right: bool
) -> None:
    document = app.openapi()
    answer = document["paths"][PATH]["get"]["responses"]["200"]
    assert ("schema" in answer["content"]["text/event-stream"]) == right
    assert ("OrderEvent" in document["components"]["schemas"]) == right


def test_what_is_sent_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typed_client, "PAUSE", 0)
    bodies = {drive(a, "/orders/7/events").body for a in (wrong.app, typed_client.app)}
    assert len(bodies) == 1
