"""docs/pitfalls/events.md: SyntaxError in JSON at position 1."""

import json

import pytest
from fastapi.testclient import TestClient
from playwright.sync_api import Page

from recipes.pitfalls.sse_basic.dict_as_data import app
from tests.kit import sse


def test_a_dict_goes_out_as_python_writes_it() -> None:
    (event,) = sse.parse([TestClient(app).get("/events").content]).events
    assert event.data == "{'id': 7, 'state': 'paid', 'gift': None}"
    with pytest.raises(json.JSONDecodeError, match=r"char 1\b"):
        json.loads(event.data)


def test_json_goes_out_as_json() -> None:
    (event,) = sse.parse([TestClient(app).get("/json-events").content]).events
    assert json.loads(event.data) == {"id": 7, "state": "paid", "gift": None}


def test_chromium_says_what_the_page_quotes(page: Page) -> None:
    (event,) = sse.parse([TestClient(app).get("/events").content]).events
    read = (
        """data => { try { JSON.parse(data) } catch (error) { return `${error}` } }"""
    )
    said = page.evaluate(read, event.data)
    assert said.startswith(
        "SyntaxError: Expected property name or '}' in JSON at position 1"
    )
