"""docs/pitfalls/bytes.md: TypeError: Type is not JSON serializable: decimal.Decimal."""

from decimal import Decimal

import orjson
import pytest
from fastapi.testclient import TestClient

from recipes.pitfalls.ndjson_database.price_as_float import ORDER, app


@pytest.mark.parametrize(("path", "exact"), [("/as-float", False), ("/as-text", True)])
def test_a_price_keeps_its_digits_only_as_text(path: str, exact: bool) -> None:
    order = TestClient(app).get(path).json()
    assert (Decimal(order["price"]) == ORDER["price"]) == exact


def test_orjson_refuses_a_decimal() -> None:
    message = "Type is not JSON serializable: decimal.Decimal"
    with pytest.raises(TypeError, match=message):
        orjson.dumps(ORDER)
