"""docs/recipes/http_proxy.md: what Chromium makes of a right and of a wrong proxy."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from tests.kit import servers
from tests.kit.servers import Server, uvicorn
from tests.servers.upstream_http_proxy import Upstream, upstream

pytestmark = pytest.mark.timeout(servers.START + 20)

FETCH = """async () => {
  const response = await fetch("/shop/x");
  return await response.text().catch((error) => `rejected: ${error.name}`);
}"""


@pytest.fixture
def shop() -> Iterator[Upstream]:
    with upstream() as service:
        yield service


@pytest.fixture
def server(shop: Upstream) -> Iterator[Server]:
    env = {"SHOP_URL": shop.url}
    with uvicorn("recipes.http_proxy:app", env=env, warm=True) as running:
        yield running


@pytest.mark.parametrize(
    ("end", "told"), [("0\r\n\r\n", "tea"), ("", "rejected: TypeError")]
)
def test_fetch_rejects_when_an_answer_breaks_off(
    server: Server,
    shop: Upstream,
    page: Page,
    page_errors: list[str],
    end: str,
    told: str,
) -> None:
    page.goto(f"{server.url}/openapi.json")
    page_errors.clear()
    head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntea\r\n"
    shop.says(f"{head}{end}".encode(), close=True)
    assert page.evaluate(FETCH) == told
    assert len(page_errors) == (end == "")
    page_errors.clear()


def test_chromium_says_that_decoding_failed(page: Page, page_errors: list[str]) -> None:
    app = "recipes.pitfalls.http_proxy.decoded_body:app"
    with uvicorn(app, warm=True) as wrong:
        page.goto(f"{wrong.url}/openapi.json")
        page_errors.clear()
        assert page.evaluate(FETCH.replace("/shop/x", "/orders")).startswith("rejected")
    assert "net::ERR_CONTENT_DECODING_FAILED" in page_errors.pop()
