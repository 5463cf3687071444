"""docs/pitfalls/bytes.md: net::ERR_CONTENT_DECODING_FAILED behind a proxy."""

import asyncio
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient

from cookbook.background import serving
from recipes import http_proxy
from recipes.pitfalls.http_proxy import decoded_body as wrong

PACKED = {"Accept-Encoding": "gzip"}


def test_wrong_the_header_says_gzip_and_the_bytes_are_none() -> None:
    with (
        TestClient(wrong.app) as client,
        client.stream("GET", "/orders", headers=PACKED) as response,
    ):
        assert response.headers["content-encoding"] == "gzip"
        raw = b"".join(response.iter_raw())
        assert raw.startswith(b"order 0: green tea\n")
    with TestClient(wrong.app) as client, pytest.raises(httpx2.DecodingError):
        client.get("/orders", headers=PACKED)


@pytest.mark.parametrize("headers", [PACKED, {"Accept-Encoding": "identity"}])
def test_right_bytes_and_header_agree(
    headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(wrong.shop) as url:
        monkeypatch.setenv("SHOP_URL", url)
        with TestClient(http_proxy.app) as client:
            response = client.get("/shop/orders", headers=headers)
    assert ("content-encoding" in response.headers) == (headers == PACKED)
    assert response.text.startswith("order 0: green tea\n")


def test_it_is_the_same_with_a_service_that_is_a_server() -> None:
    async def passed_on(url: str) -> tuple[str, bytes]:
        async with httpx2.AsyncClient(base_url=url) as client:
            request: Any = SimpleNamespace(state=SimpleNamespace(client=client))
            answer = await wrong.pass_on(request)
            body = b""
            async for chunk in answer.body_iterator:
                assert isinstance(chunk, bytes)
                body += chunk
            return answer.headers["content-encoding"], body

    with serving(wrong.shop) as url:
        encoding, body = asyncio.run(passed_on(url))
    assert (encoding, body[:8]) == ("gzip", b"order 0:")
