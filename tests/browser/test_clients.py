"""The clients for the browser, which the pages show whole, in a browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.kit import clients
from tests.kit.servers import START, Server, uvicorn

pytestmark = pytest.mark.timeout(START + 10)


@pytest.fixture(scope="module")
def text() -> Iterator[Server]:
    """Run the recipe that is read as text."""
    with uvicorn("recipes.plain_text:app") as running:
        yield running


def run_module(page: Page, server: Server, source: str) -> None:
    """Run a module in a page on the server's origin; raise what it throws."""
    page.route(
        "**/client.mjs",
        lambda route: route.fulfill(body=source, content_type="text/javascript"),
    )
    page.goto(f"{server.url}/openapi.json")
    page.evaluate("() => import('/client.mjs').then(() => {})")


def test_each_line_is_shown_as_it_arrives(
    text: Server, page: Page, tmp_path: Path
) -> None:
    source = clients.copied("plain_text.mjs", text.url, tmp_path).read_text("utf-8")
    noted = source.replace("await reader.read()", "(reads += 1, await reader.read())")
    noted = noted.replace("console.log(line)", "console.log(reads, line)")
    shown: list[str] = []
    page.on("console", lambda message: shown.append(message.text))
    run_module(page, text, f"let reads = 0;\n{noted}")
    reads = [int(line.split(" ", 1)[0]) for line in shown]
    assert [line.split(" ", 1)[1] for line in shown] == [
        "Order 2 for Zoë",
        "packed: crème brûlée",
        "packed: rosé",
        "packed: jalapeño",
        "Ready to ship",
    ]
    assert len(set(reads)) >= 3, "the pauses between the items separate the chunks"


def test_a_refusal_is_an_error_that_says_why(
    text: Server, page: Page, page_errors: list[str], tmp_path: Path
) -> None:
    source = clients.copied("plain_text.mjs", text.url, tmp_path).read_text("utf-8")
    with pytest.raises(Exception, match=r"404: .*There is no order 7"):
        run_module(page, text, source.replace("/route/2", "/route/7"))
    assert "404" in page_errors.pop()


@pytest.mark.parametrize("from_disk", [True, False])
def test_the_link_downloads_the_export_under_its_name(
    page: Page, tmp_path: Path, from_disk: bool
) -> None:
    with uvicorn("recipes.csv_export:app") as running:
        file = clients.copied("csv_export.html", running.url, tmp_path)
        if from_disk:
            page.goto(file.as_uri())
        else:
            html = file.read_text("utf-8")
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
