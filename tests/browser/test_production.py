"""docs/production/proxies.md: what a browser gets through nginx and Caddy."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.kit import servers
from tests.kit.browser import WAIT
from tests.kit.proxies import Front, proxy
from tests.kit.servers import Server, uvicorn

pytestmark = pytest.mark.timeout(servers.START + 20)

each_proxy = pytest.mark.parametrize("name", ["nginx", "caddy"])
# Without HTTP/2, in the words of each file.
OLD = {
    "nginx": {"http2 on;": "http2 off;"},
    "caddy": {"\tservers {": "\tservers {\n\t\tprotocols h1"},
}
MANY = 20
# Open streams in this page; each says in the list when its first event comes.
OPEN = """many => {
    window.sources = [];
    window.got = [];
    for (let number = 0; number < many; number++) {
        const source = new EventSource("/open");
        source.onmessage = () => got.push(number);
        sources.push(source);
    }
}"""
GOT = "many => got.length >= many"
# How a file came to this page: `h2`, `h3` or `http/1.1`.
PROTOCOL = """async () => {
    await (await fetch("/who")).text();
    return performance.getEntriesByName(location.origin + "/who")[0].nextHopProtocol;
}"""
READ = """async () => {
    window.text = "";
    const response = await fetch("/first");
    const decoder = new TextDecoder();
    for await (const chunk of response.body) text += decoder.decode(chunk);
    window.complete = true;
}"""


@pytest.fixture(scope="module")
def app() -> Iterator[Server]:
    with uvicorn("tests.servers.behind_proxies:app") as running:
        yield running


@contextmanager
def page_of(chromium: Browser, front: Front) -> Iterator[Page]:
    """Open a page through a proxy, whose certificate no authority has signed."""
    context = chromium.new_context(ignore_https_errors=True)
    context.set_default_timeout(WAIT)
    page = context.new_page()
    page.goto(f"{front.url}/page")
    try:
        yield page
    finally:
        context.close()


@each_proxy
def test_twenty_streams_are_open_at_once_over_http_2(
    name: str, app: Server, chromium: Browser, tmp_path: Path
) -> None:
    with proxy(name, tmp_path, app) as front, page_of(chromium, front) as page:
        assert page.evaluate(PROTOCOL) == "h2"
        page.evaluate(OPEN, MANY)
        page.wait_for_function(GOT, arg=MANY)
        # There is room for another request.
        assert page.evaluate("fetch('/who').then(r => r.status)") == 200
        start = app.output().count("left ")
        # A browser that closes one stream keeps the connection; the application learns.
        page.evaluate("sources[0].close()")
        servers.until(lambda: app.output().count("left ") == start + 1, "the first")
        page.evaluate("sources.forEach(source => source.close())")
        servers.until(lambda: app.output().count("left ") == start + MANY, "all")


@each_proxy
def test_over_http_1_1_the_seventh_waits_until_another_is_closed(
    name: str, app: Server, chromium: Browser, tmp_path: Path
) -> None:
    with (
        proxy(name, tmp_path, app, changes=OLD[name]) as front,
        page_of(chromium, front) as page,
    ):
        assert page.evaluate(PROTOCOL) == "http/1.1"
        before = app.output().count("opened ")
        page.evaluate(OPEN, MANY)
        page.wait_for_function(GOT, arg=6)
        for closed in range(MANY - 6):
            # Each of the fourteen that wait is asked for when another is closed.
            assert app.output().count("opened ") - before == 6 + closed
            page.evaluate(f"sources[got[{closed}]].close()")
            page.wait_for_function(GOT, arg=7 + closed)


@each_proxy
def test_a_reload_of_the_proxy_cuts_no_stream_of_a_browser(
    name: str, app: Server, chromium: Browser, tmp_path: Path
) -> None:
    with proxy(name, tmp_path, app) as front, page_of(chromium, front) as page:
        assert page.evaluate(PROTOCOL) == "h2"
        page.evaluate(f"void ({READ})()")
        page.wait_for_function("text === 'first\\n'")
        front.reload()
        with front.client() as client:
            client.post("/go")
        page.wait_for_function("window.complete && text === 'first\\nlast\\n'")
