"""The browser is real, its pages start fresh, and their errors are noticed."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page


pytestmark = pytest.mark.timeout(30)


def test_a_page_runs_javascript(page: "Page") -> None:
    page.set_content("<p></p><script>document.body.append('tea')</script>")
    assert page.inner_text("body") == "tea"


def test_errors_of_a_page_are_collected(page: "Page", page_errors: list[str]) -> None:
    with page.expect_event("pageerror"):
        page.set_content(
            "<script>console.error('no tea'); throw Error('no pot')</script>"
        )
    assert page_errors == ["no tea", "no pot"]
    page_errors.clear()
