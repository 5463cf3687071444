"""A recipe's `/docs` and `/redoc`: shown with every other host out of reach."""

import re
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
from playwright.sync_api import Page, Request, Route, expect

from cookbook import site as house
from cookbook.api_docs import OwnDocs
from cookbook.background import serving
from recipes import plain_text
from tests.kit.browser import WAIT

pytestmark = pytest.mark.timeout(60)  # seconds; a browser is started


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Serve a recipe in the site, and alone as `cookbook run` does."""
    empty = tmp_path_factory.mktemp("site")
    alone = OwnDocs(plain_text.app)
    with serving(house.create_app(empty)) as site, serving(alone) as run:
        yield {"site": f"{site}/live/plain_text", "run": run}


POLICY = "Content Security Policy"


@pytest.mark.parametrize("where", ["site", "run"])
@pytest.mark.parametrize(
    ("path", "operation"),
    [("/docs", ".opblock-summary-path"), ("/redoc", "[data-section-id^='operation']")],
)
def test_the_operations_are_seen_and_no_other_host_is_asked(
    page: Page,
    page_errors: list[str],
    addresses: dict[str, str],
    where: str,
    path: str,
    operation: str,
) -> None:
    asked: list[str] = []

    def refuse(route: Route, request: Request) -> None:
        asked.append(request.url)
        route.abort()

    page.route(re.compile(r"^https?://(?!127\.0\.0\.1[:/])"), refuse)
    # ReDoc would like its maker's logo. The policy refuses it, as the console says.
    refused = page.expect_console_message(lambda said: POLICY in said.text)
    with refused if path == "/redoc" else nullcontext():
        page.goto(addresses[where] + path)
    expect(page.locator(operation).first).to_be_visible(timeout=WAIT)
    assert asked == []
    page_errors[:] = [e for e in page_errors if POLICY not in e]
