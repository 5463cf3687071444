"""docs/pitfalls/tokens.md: database is locked, as long as another answer streams."""

from urllib.parse import urlsplit

import httpx2
import pytest
from fastapi import FastAPI

from cookbook.background import serving
from recipes import llm_collect
from recipes.pitfalls.llm_collect import transaction_while_streaming as wrong
from tests.kit.asgi import drive
from tests.kit.servers import raw_get

ASK = "/answer?prompt=x&model=gated"


def second(app: FastAPI) -> int:
    """Give the status of a second answer while a first one streams."""
    with serving(app) as address:
        port = urlsplit(address).port
        assert port
        with raw_get(port, ASK) as first:
            assert first.head.startswith("HTTP/1.1 200")
            first.chunk()
            with httpx2.stream("GET", f"{address}{ASK}") as answer:
                return answer.status_code


def test_wrong_the_second_answer_finds_the_database_locked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert second(wrong.app) == 500
    assert "database is locked" in capsys.readouterr().err


def test_nobody_notices_as_long_as_one_comes_after_the_other() -> None:
    for _ in range(2):
        run = drive(wrong.app, "/answer?prompt=x&model=ok")
        assert run.body == b"Tea is hot because the water was."


def test_right_with_the_recipe_both_answers_stream() -> None:
    assert second(llm_collect.app) == 200
