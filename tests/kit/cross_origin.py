"""Pages of other origins, for the tests of cross_origin."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page

from tests.kit import clients, servers
from tests.kit.browser import WAIT
from tests.kit.servers import Server

PORT = "PORT = 8003"


@contextmanager
def site(folder: Path, port: int, api: str) -> Iterator[Server]:
    """Serve the page of `docs/clients` on a port, as its program does."""
    folder.mkdir(exist_ok=True)
    clients.copied("cross_origin.html", api, folder)
    source = Path(servers.ROOT / "docs/clients/cross_origin_site.py").read_text("utf-8")
    assert PORT in source
    program = folder / "cross_origin_site.py"
    program.write_text(source.replace(PORT, f"PORT = {port}"), "utf-8")
    with servers.serve([sys.executable, "-u", str(program)], port) as running:
        yield running


@contextmanager
def bare_page(
    browser: Browser, permissions: list[str] | None = None
) -> Iterator[tuple[Page, list[str]]]:
    """Open a page with nothing in between, and collect what its console says.

    The kit's own page intercepts requests. Playwright then answers every preflight
    itself, so it would prove nothing here.
    """
    context = browser.new_context(permissions=permissions or [])
    context.set_default_timeout(WAIT)
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    yield page, said
    context.close()
