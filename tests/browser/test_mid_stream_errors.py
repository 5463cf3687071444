"""docs/recipes/mid_stream_errors.md: its tables, and what Chromium shows."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.kit import clients, failures
from tests.kit.servers import START, Server, uvicorn

pytestmark = pytest.mark.timeout(2 * START)

CLOSED = 2  # EventSource.CLOSED
ROUTES = ["native", "sse-starlette", "by-hand"]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Run the recipe."""
    with uvicorn("recipes.mid_stream_errors:app") as running:
        yield running


def test_the_tables_are_what_the_clients_see(chromium: Browser) -> None:
    kept = failures.TABLE.read_text("utf-8")
    assert failures.tables(chromium) == kept, "run python -m tests.kit.failures"


def start(page: Page, server: Server, layer: str, fails: str) -> None:
    """Open the recipe's page, choose, and press Start."""
    page.goto(server.url)
    page.get_by_label("Layer").select_option(layer)
    page.get_by_label("The database fails").select_option(fails)
    page.get_by_role("button", name="Start").click()


@pytest.mark.parametrize("layer", ROUTES)
def test_the_page_shows_the_orders_says_that_it_failed_and_closes(
    layer: str, server: Server, page: Page
) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    start(page, server, layer, "at the fourth order")
    said = re.compile(r"^Failed after 3 orders\. Reference: [0-9a-f]{16}$")
    expect(page.locator("#status")).to_have_text(said)
    assert page.locator("li").all_inner_texts() == ["green tea", "tea pot", "honey"]
    assert page.evaluate("source.readyState") == CLOSED
    assert asked.count(f"{server.url}/{layer}?fail_at=4") == 1


@pytest.mark.parametrize("layer", ROUTES)
def test_the_page_says_that_these_are_all_the_orders(
    layer: str, server: Server, page: Page
) -> None:
    start(page, server, layer, "not today")
    expect(page.locator("#status")).to_have_text("These are all the orders.")
    expect(page.locator("li")).to_have_count(5)
    assert page.evaluate("source.readyState") == CLOSED


def test_event_source_sees_neither_the_status_nor_the_reason(
    server: Server, page: Page, page_errors: list[str]
) -> None:
    start(page, server, "native", "at the first order")
    expect(page.locator("#status")).to_have_text("The server said no.")
    assert page.evaluate("source.readyState") == CLOSED
    assert "503" in page_errors.pop()


def test_the_client_works_on_a_page_of_the_server(
    server: Server, page: Page, tmp_path: Path
) -> None:
    name = "mid_stream_errors.mjs"
    source = clients.copied(name, server.url, tmp_path).read_text("utf-8")
    shown: list[str] = []
    page.on("console", lambda message: shown.append(message.text))
    page.route(
        "**/client.mjs",
        lambda route: route.fulfill(body=source, content_type="text/javascript"),
    )
    page.goto(f"{server.url}/openapi.json")
    with pytest.raises(Exception, match=r"Failed after 3 orders\. Reference: "):
        page.evaluate("() => import('/client.mjs').then(() => {})")
    assert shown == ["1 green tea", "2 tea pot", "3 honey"]
