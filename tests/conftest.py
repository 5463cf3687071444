"""What every test may ask for by name, and what a failed test shows."""

import logging
import re
from collections.abc import Generator, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import httpx2
import pytest
from hypothesis import settings

from cookbook.catalog import ROOT
from tests.kit import measured, servers
from tests.kit.docs import mkdocs
from tests.kit.postgres import Postgres, postgres
from tests.kit.share import needs_chromium
from tests.kit.turns import turn

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


# No clock: a busy machine must not fail a test, and each run tries the same examples.
settings.register_profile("suite", deadline=None, derandomize=True)
# `make check` tries a fifth of them: the first ones, so the same each time, too.
settings.register_profile("fast", settings.get_profile("suite"), max_examples=20)
settings.load_profile("suite")
measured.install()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let `--recipe csv_export` choose what belongs to one recipe."""
    parser.addoption("--recipe", metavar="SLUG")


@pytest.fixture(autouse=True, scope="session")
def _read_certificates_once() -> Iterator[None]:
    """Share what takes most of the time of a client's start: the authorities' list."""
    once = cache(httpx2.create_ssl_context)
    with mock.patch("httpx2._transports.default.create_ssl_context", once):
        yield


@pytest.fixture(autouse=True)
def _uvicorns_log_is_seen() -> None:
    """Let `caplog` see uvicorn's log: a server in this process may have set it up."""
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.propagate = True
        logger.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def only(pytestconfig: pytest.Config) -> str | None:
    """Give the slug of the recipe that alone is tested, if there is one."""
    slug: str | None = pytestconfig.getoption("--recipe")
    return slug


@pytest.fixture(scope="session")
def built_site(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Build the site of this repository once, strictly; tests only read it, or copy.

    It is one for all runs of pytest that share their work (`tests.kit.share`): the run
    that needs it first builds it.
    """
    shared: Path | None = pytestconfig.getoption("--share", None)
    folder = shared or tmp_path_factory.mktemp("built")
    with turn(folder / "site.lock"):
        if not (folder / "site").exists():
            done = mkdocs(ROOT, folder / "half")
            assert done.returncode == 0, done.stdout + done.stderr
            (folder / "half").rename(folder / "site")
    return folder / "site"


@pytest.fixture(scope="module")
def real_postgres() -> Iterator[Postgres]:
    """Give a PostgreSQL with an empty database, of its own for each file of tests."""
    with postgres() as running:
        yield running


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
    """Give a page in a fresh context; its waits end after `browser.WAIT`."""
    from tests.kit import browser

    with browser.new_page(chromium, page_errors) as opened:
        yield opened
    assert page_errors == [], "errors in the page that the test did not expect"


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Leave out what is not of the recipe that was asked for; sort the others.

    The browser's tests come last: Playwright keeps a loop running in this thread.
    """
    if slug := config.getoption("--recipe"):
        chosen = [item for item in items if _is_of(slug, item.nodeid)]
        config.hook.pytest_deselected(items=[i for i in items if i not in chosen])
        items[:] = chosen
    items.sort(key=needs_chromium)


def _is_of(slug: str, nodeid: str) -> bool:
    file, _, name = nodeid.partition("::")
    test, _, case = name.partition("[")
    if test == "test_this_repository_holds_together":
        return True
    own_file = re.search(rf"/(test_{slug}\.py$|{slug}/)", file)
    return bool(own_file or slug in re.split("[]-]", case))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[
    None, pytest.TestReport, pytest.TestReport
]:
    """Show the output of every server that runs when a test fails."""
    report = yield
    if report.failed:
        report.sections += [(f"{s}", s.output()) for s in servers.running]
    return report
