"""docs/pitfalls/around.md: from origin 'null'."""

import pytest
from fastapi import FastAPI

from recipes import cross_origin
from recipes.pitfalls.cross_origin import null_origin as wrong
from tests.kit.asgi import drive


@pytest.mark.parametrize(
    ("app", "right"), [(wrong.app, False), (cross_origin.app, True)]
)
def test_a_page_without_an_origin_may_read(
    app: FastAPI, right: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cross_origin, "PAUSE", 0)
    run = drive(app, "/events", headers={"Origin": "null"})
    allowed = run.headers.get("access-control-allow-origin")
    assert allowed == (None if right else "null")
    assert (b"delivered" in run.body) != right


def test_a_named_stranger_is_kept_out_by_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cross_origin, "PAUSE", 0)
    run = drive(wrong.app, "/events", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in run.headers
