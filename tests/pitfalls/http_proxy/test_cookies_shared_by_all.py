"""docs/pitfalls/bytes.md: one visitor sees the session of another behind my proxy."""

import pytest
from fastapi.testclient import TestClient

from cookbook.background import serving
from recipes import http_proxy
from recipes.pitfalls.http_proxy import cookies_shared_by_all as wrong


def test_wrong_the_second_visitor_is_the_first() -> None:
    with TestClient(wrong.app) as visitor:
        visitor.get("/login")
        visitor.cookies.clear()
        assert visitor.get("/account").json() == "These are the orders of Ada."


def test_right_the_second_visitor_is_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(wrong.shop) as url:
        monkeypatch.setenv("SHOP_URL", url)
        with TestClient(http_proxy.app) as visitor:
            assert visitor.get("/shop/login").json() == "Welcome, Ada."
            visitor.cookies.clear()
            told = visitor.get("/shop/account").json()
    assert told == "These are the orders of nobody."
