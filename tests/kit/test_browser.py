"""The browser is real, its pages start fresh, and their errors are noticed."""

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil
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


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities there")
def test_the_browser_takes_no_core_from_what_runs_beside_it(page: "Page") -> None:
    page.set_content("<p>tea</p>")
    ours = psutil.Process().children(recursive=True)
    priorities = []
    for process in ours:
        # What ends meanwhile has none.
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if "chrom" in process.name():
                threads = [thread.id for thread in process.threads()]
                priorities += [os.getpriority(os.PRIO_PROCESS, n) for n in threads]
    assert priorities
    assert min(priorities) >= os.getpriority(os.PRIO_PROCESS, 0)
