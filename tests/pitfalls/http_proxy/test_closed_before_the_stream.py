"""docs/pitfalls/bytes.md: httpx2.StreamClosed in a proxy."""

import httpx2
import pytest

from cookbook.background import serving
from recipes import http_proxy
from recipes.pitfalls.http_proxy import closed_before_the_stream as wrong
from tests.kit.asgi import drive


def test_wrong_a_status_comes_and_no_body() -> None:
    run = drive(wrong.app, "/orders")
    assert (run.status, run.chunks) == (200, [])
    assert isinstance(run.error, httpx2.StreamClosed)


def test_right_the_response_stays_open_until_it_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving(wrong.shop) as url:
        monkeypatch.setenv("SHOP_URL", url)
        run = drive(http_proxy.app, "/shop/orders")
    assert (run.status, run.body) == (200, b'["green tea","honey"]')
