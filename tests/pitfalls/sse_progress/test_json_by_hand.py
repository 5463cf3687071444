"""docs/pitfalls/events.md: Invalid JSON in my event when a name contains a quote."""

import json

import pytest
from fastapi.testclient import TestClient

from recipes.pitfalls.sse_progress.json_by_hand import app
from tests.kit.sse import parse

FILES = ["orders.csv", '12"-pots.csv', "a\\x.csv", "a\nb.csv"]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(
    ("path", "right"), [("/events", False), ("/typed-events", True)]
)
def test_the_data_is_json_whatever_the_file_is_called(
    path: str, right: bool, file: str
) -> None:
    body = TestClient(app).get(path, params={"file": file}).content
    (*_, last) = parse([body]).events
    if right:
        assert json.loads(last.data) == {"file": file, "percent": 100}
    elif file == "orders.csv":
        assert json.loads(last.data) == {"file": file, "percent": 100.0}
    else:
        with pytest.raises(json.JSONDecodeError):
            json.loads(last.data)
