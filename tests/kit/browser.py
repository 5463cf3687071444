"""A real Chromium for the tests, and a page that reports its own errors.

    def test_the_events_are_shown(page: Page, server: Server) -> None:
        page.goto(f"http://127.0.0.1:{server.port}/")
        expect(page.locator("li")).to_have_count(6)

A test that expects errors in the console takes them out of `page_errors`; what is left
there at its end fails it.

    def test_a_lost_stream_is_tried_again(page: Page, page_errors: list[str]) -> None:
        ...
        assert "ERR_CONNECTION_REFUSED" in page_errors.pop()
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Page,
    expect,
    sync_playwright,
)

from tests.kit import servers
from tests.kit.servers import need

WAIT = servers.WAIT * 1000  # milliseconds, the limit of every wait in a page
OPTIONS = [
    "--no-sandbox",  # The tests may run as root in a container.
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--no-first-run",
]


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the system's Chromium, headless, with a fresh profile."""
    path = shutil.which("chromium") or need("chromium", "apt-get install chromium")
    expect.set_options(timeout=WAIT)
    with sync_playwright() as playwright, modest(path) as program:
        browser = playwright.chromium.launch(
            executable_path=program, headless=True, args=OPTIONS
        )
        yield browser
        browser.close()


@contextmanager
def modest(path: str) -> Iterator[str]:
    """Give a program that starts Chromium without the right to raise its priority.

    As root it takes the cores from the servers of other tests, which are late then.
    """
    setpriv = shutil.which("setpriv")
    if not setpriv or os.geteuid() != 0:  # Only root has that right.
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "chromium"
        command = f"{setpriv} --bounding-set=-sys_nice {path}"
        program.write_text(f'#!/bin/sh\nexec {command} "$@"\n', "utf-8")
        program.chmod(0o700)
        yield str(program)


@contextmanager
def new_page(browser: Browser, errors: list[str]) -> Iterator[Page]:
    """Open a page without history, cookies or cache; it adds its errors to `errors`."""

    def heard(message: ConsoleMessage) -> None:
        if message.type == "error":
            errors.append(message.text)

    context = browser.new_context()
    context.set_default_timeout(WAIT)
    # Chromium asks every server for it, and reports that it is missing.
    context.route("**/favicon.ico", lambda route: route.fulfill(status=204))
    page = context.new_page()
    page.on("console", heard)
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
