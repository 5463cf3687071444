"""docs/recipes/llm_text.md: what Chromium makes of text, and of text called events."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import Page, expect

from cookbook.llm import scripted
from tests.kit.changed import changed
from tests.kit.servers import Server, uvicorn

pytestmark = pytest.mark.timeout(60)  # seconds; several servers are started

ASK = "/answer?prompt=x"
READ_ONE = """async (path) => {
    const response = await fetch(path);
    const { value } = await response.body.getReader().read();
    return new TextDecoder().decode(value);
}"""
LISTEN = """(path) => {
    window.seen = [];
    const source = new EventSource(path);
    source.onopen = () => window.seen.push('open');
    source.onmessage = () => window.seen.push('message');
    source.onerror = () => window.seen.push('error');
}"""


@pytest.fixture(scope="module")
def running() -> Iterator[scripted.Provider]:
    with scripted.running(pace=0) as provider:
        yield provider


@pytest.fixture
def provider(running: scripted.Provider) -> scripted.Provider:
    """Give the provider without memory."""
    running.reset()
    return running


@pytest.fixture(scope="module")
def server(running: scripted.Provider) -> Iterator[Server]:
    env = {**running.env, "OPENAI_MODEL": "stall-after-first"}
    with uvicorn("recipes.llm_text:app", env=env, warm=True) as right:
        yield right


@pytest.fixture(scope="module")
def sniffed(
    running: scripted.Provider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Serve the recipe with nothing in that header field."""
    folder = changed(tmp_path_factory.mktemp("sniffed"), "llm_text", "nosniff", "")
    env = {**running.env, "OPENAI_MODEL": "stall-after-first"}
    with uvicorn("recipes.llm_text:app", env=env, cwd=folder, warm=True) as wrong:
        yield wrong


def open_address(page: Page, url: str) -> None:
    """Open an address as a link does, without waiting for anything."""
    page.evaluate("(url) => { location.href = url; }", url)


def test_an_opened_address_shows_the_first_token_only_because_of_nosniff(
    page: Page, server: Server, sniffed: Server, provider: scripted.Provider
) -> None:
    with ExitStack() as stack:
        other = stack.enter_context(page.context.expect_page())
        page.evaluate("window.open('about:blank')")
        blank = other.value
    open_address(blank, sniffed.url + ASK)
    provider.wait(1, until=lambda request: request.tokens_made == 1)
    open_address(page, server.url + ASK)
    expect(page.locator("body")).to_have_text("Tea")
    # The other has had its token for longer, and shows nothing.
    assert blank.url == "about:blank"
    blank.close()


def test_fetch_reads_the_first_token_with_or_without_nosniff(
    page: Page, server: Server, sniffed: Server
) -> None:
    for one in (server, sniffed):
        page.goto(f"{one.url}/openapi.json")
        assert page.evaluate(READ_ONE, ASK) == "Tea"


def test_an_event_source_gets_no_message_from_bare_tokens_and_asks_again(
    page: Page, running: scripted.Provider, provider: scripted.Provider
) -> None:
    app = "recipes.pitfalls.llm_text.event_stream_without_events:app"
    with uvicorn(app, env=running.env, warm=True) as wrong:
        page.goto(f"{wrong.url}/openapi.json")
        page.evaluate(LISTEN, "/answer?prompt=x&model=ok")
        assert provider.wait(1).ended == "complete"
        # Chromium waits three seconds before it asks again.
        assert provider.wait(2).ended == "complete"
        assert "message" not in page.evaluate("window.seen")
        assert page.evaluate("window.seen.slice(0, 2)") == ["open", "error"]
