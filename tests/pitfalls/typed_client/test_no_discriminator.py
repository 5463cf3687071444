"""docs/pitfalls/around.md: my client takes a refund for a payment."""

import pytest
from pydantic import TypeAdapter

from recipes import typed_client
from recipes.pitfalls.typed_client import no_discriminator as wrong
from recipes.pitfalls.typed_client.no_discriminator import Paid, Refunded
from tests.kit import sse
from tests.kit.asgi import drive


def test_a_refund_is_read_as_a_payment() -> None:
    events = sse.parse([drive(wrong.app, "/orders/7/events").body]).events
    read: TypeAdapter[Paid | Refunded] = TypeAdapter(Paid | Refunded)
    kinds = [type(read.validate_json(event.data)) for event in events]
    assert kinds == [Paid, Paid]


def test_with_a_type_each_is_read_as_what_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(typed_client, "PAUSE", 0)
    events = sse.parse([drive(typed_client.app, "/orders/7/events").body]).events
    read = [typed_client.OrderEvent.model_validate_json(e.data).root for e in events]
    kinds = [type(event) for event in read]
    right = [typed_client.Placed, typed_client.Paid, typed_client.Shipped]
    assert kinds == [*right, typed_client.Delivered]
