"""docs/recipes/llm_cancel.md: what its page does, in a real browser."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, Route, expect

from cookbook.llm import scripted
from tests.kit.servers import Server, uvicorn

pytestmark = pytest.mark.timeout(60)  # seconds; a server is started


@pytest.fixture(scope="module")
def provider() -> Iterator[scripted.Provider]:
    """Start a provider without pauses."""
    with scripted.running(pace=0) as running:
        yield running


@pytest.fixture(scope="module")
def server(provider: scripted.Provider) -> Iterator[Server]:
    """Run the recipe; each token waits for a test to let it through."""
    env = {**provider.env, "OPENAI_MODEL": "gated", "REDIS_URL": ""}
    with uvicorn("recipes.llm_cancel:app", env=env) as running:
        yield running


@pytest.fixture
def gate(provider: scripted.Provider) -> scripted.Provider:
    """Give the provider without memory."""
    provider.reset()
    return provider


def ask(page: Page, server: Server, gate: scripted.Provider, seconds: int = 60) -> None:
    """Ask, and see two tokens."""
    page.goto(server.url)
    page.get_by_label("Deadline").fill(str(seconds))
    page.get_by_role("button", name="Ask").click()
    gate.go(1)
    expect(page.locator("#text")).to_have_text("Tea")
    assert gate.wait(1, lambda request: request.tokens_made == 1).tokens_made == 1
    gate.go(1)
    expect(page.locator("#text")).to_have_text("Tea is")


def test_stop_by_a_request_tells_what_the_server_counted(
    page: Page, server: Server, gate: scripted.Provider
) -> None:
    ask(page, server, gate)
    page.get_by_role("button", name="Stop by a request").click()
    said = "Stopped by the request. The server counted 2 tokens."
    expect(page.get_by_role("status")).to_have_text(said)
    assert gate.wait(1).hung_up_after == 2
    expect(page.locator("#text")).to_have_text("Tea is")
    expect(page.get_by_role("button", name="Stop by a request")).to_be_disabled()
    expect(page.get_by_role("button", name="Ask")).to_be_enabled()


def test_stop_by_leaving_tells_what_the_page_has_seen(
    page: Page, server: Server, gate: scripted.Provider
) -> None:
    ask(page, server, gate)
    page.get_by_role("button", name="Stop by leaving").click()
    said = "Left. This page has seen 2 tokens."
    expect(page.get_by_role("status")).to_have_text(said)
    assert gate.wait(1).hung_up_after == 2
    page.get_by_role("button", name="Ask").click()
    gate.go(1)
    expect(page.locator("#text")).to_have_text("Tea")


def test_the_deadline_stops_it_too(
    page: Page, server: Server, gate: scripted.Provider
) -> None:
    ask(page, server, gate, seconds=2)
    said = "Stopped by the deadline. The server counted 2 tokens."
    expect(page.get_by_role("status")).to_have_text(said)
    assert gate.wait(1).hung_up_after == 2


def test_closing_the_tab_is_leaving(
    page: Page, server: Server, gate: scripted.Provider
) -> None:
    ask(page, server, gate)
    page.goto("about:blank")
    assert gate.wait(1).hung_up_after == 2


def test_stop_works_before_the_first_token(
    page: Page, server: Server, gate: scripted.Provider
) -> None:
    page.goto(server.url)
    page.get_by_role("button", name="Ask").click()
    expect(page.get_by_role("status")).to_have_text("Waiting for the first token.")
    gate.wait(1, lambda request: request.id == 1)
    page.get_by_role("button", name="Stop by a request").click()
    expect(page.get_by_role("status")).to_contain_text("counted 0 tokens")
    assert gate.wait(1).hung_up_after == 0


@pytest.mark.parametrize("status", [503, 404, 0])
def test_if_the_request_does_not_stop_it_the_page_leaves(
    page: Page,
    server: Server,
    gate: scripted.Provider,
    page_errors: list[str],
    status: int,
) -> None:
    def refuse(route: Route) -> None:
        if status:
            route.fulfill(status=status)
        else:
            route.abort()

    ask(page, server, gate)
    page.route("**/cancel", refuse)
    page.get_by_role("button", name="Stop by a request").click()
    expect(page.get_by_role("status")).to_contain_text("Left.")
    assert gate.wait(1).hung_up_after == 2
    assert "Failed to load resource" in page_errors.pop()
