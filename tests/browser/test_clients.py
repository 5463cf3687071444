"""The snippets for the browser, which the pages show, in a browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from cookbook.catalog import ROOT
from tests.kit.servers import Server, uvicorn

CLIENTS = ROOT / "docs/clients"


@pytest.fixture(scope="module", params=["plain_text"])
def server() -> Iterator[Server]:
    """Run the recipe that is read as text."""
    with uvicorn("recipes.plain_text:app") as running:
        yield running


def open_module(page: Page, server: Server, name: str) -> None:
    """Give a page on the server's origin the exports of a module as `client`."""
    source = (CLIENTS / name).read_text("utf-8")
    page.route(
        "**/client.js",
        lambda route: route.fulfill(body=source, content_type="text/javascript"),
    )
    page.goto(f"{server.url}/openapi.json")
    page.evaluate("async () => { window.client = await import('/client.js') }")


def test_text_is_shown_as_it_arrives(server: Server, page: Page) -> None:
    open_module(page, server, "fetch_text.js")
    shown = page.evaluate(
        """async () => {
            const shown = [];
            await client.readText("/async/2", (text) => shown.push(text));
            return shown;
        }"""
    )
    assert "".join(shown).startswith("Order 2 for Zoë\npacked: crème brûlée\n")
    assert len(shown) >= 3, "the pauses between the items separate the chunks"


def test_a_refusal_is_an_error_that_says_why(
    server: Server, page: Page, page_errors: list[str]
) -> None:
    open_module(page, server, "fetch_text.js")
    message = page.evaluate(
        "() => client.readText('/async/7', () => {}).catch((error) => error.message)"
    )
    assert message.startswith("404")
    assert "There is no order 7" in message
    assert "404" in page_errors.pop()


def test_an_abort_ends_it(server: Server, page: Page) -> None:
    open_module(page, server, "fetch_text.js")
    name = page.evaluate(
        """() => {
            const controller = new AbortController();
            const stop = () => controller.abort();
            return client.readText("/async/1", stop, controller.signal)
                .catch((error) => error.name);
        }"""
    )
    assert name == "AbortError"


@pytest.mark.timeout(60)
def test_the_link_downloads_the_export_under_its_name(
    page: Page, tmp_path: Path
) -> None:
    html = (CLIENTS / "download.html").read_text("utf-8")
    with uvicorn("recipes.csv_export:app") as running:
        page.route(
            f"{running.url}/",
            lambda route: route.fulfill(body=html, content_type="text/html"),
        )
        page.goto(f"{running.url}/")
        with page.expect_download() as download:
            page.get_by_role("link").click()
        assert download.value.suggested_filename == "Bestellungen für Zoë.csv"
        download.value.save_as(tmp_path / "orders.csv")
    assert (tmp_path / "orders.csv").read_bytes().count(b"\r\n") == 5001
