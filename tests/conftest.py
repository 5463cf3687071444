"""What every test may ask for by name, and what a failed test shows."""

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.kit import servers

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


# No clock: a busy machine must not fail a test, and each run tries the same examples.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")


@pytest.fixture(scope="session")
def chromium() -> Iterator["Browser"]:
    """Give one Chromium to all tests that need one."""
    # Imported here, so that a run without browser tests does not wait for it.
    from tests.kit import browser

    with browser.chromium() as running:
        yield running


@pytest.fixture
def page_errors() -> list[str]:
    """Collect the errors of `page`; what a test leaves here fails it."""
    return []


@pytest.fixture
def page(chromium: "Browser", page_errors: list[str]) -> Iterator["Page"]:
    """Give a page in a fresh context; its waits end after five seconds."""
    from tests.kit import browser

    with browser.new_page(chromium, page_errors) as opened:
        yield opened
    assert page_errors == [], "errors in the page that the test did not expect"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the browser's tests last: Playwright keeps a loop running in this thread."""
    items.sort(key=lambda item: "chromium" in getattr(item, "fixturenames", ()))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[
    None, pytest.TestReport, pytest.TestReport
]:
    """Show the output of every server that runs when a test fails."""
    report = yield
    if report.failed:
        report.sections += [(f"{s}", s.output()) for s in servers.running]
    return report
