"""docs/recipes/stream_limits.md: what a page with EventSource sees, in Chromium."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from cookbook.catalog import ROOT
from tests.kit import servers
from tests.kit.servers import Server, uvicorn

APP = "tests.servers.watched_stream_limits:app"
PAGE = (ROOT / "docs/recipes/stream_limits.md").read_text("utf-8")
SCRIPT = ROOT / "docs/clients/stream_limits.js"
CLOSED = 2  # EventSource.CLOSED

pytestmark = pytest.mark.timeout(servers.START + 30)


def open_page(page: Page, server: Server) -> None:
    """Open a page with the script, and sign in."""
    page.goto(f"{server.url}/openapi.json")
    page.add_script_tag(path=SCRIPT)
    page.evaluate('post("/sign-in", { name: "ada" })')


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Serve the recipe, with streams that last half a second."""
    env = {"TICK": "0.1", "LIFETIME": "0.5", "SESSION": "60", "EACH": "100"}
    with uvicorn(APP, env=env) as running:
        yield running


@pytest.fixture
def signed_in(page: Page, server: Server) -> Page:
    """Open a page of the server that has signed in."""
    open_page(page, server)
    return page


def test_with_the_cookie_it_comes_back_by_itself_after_a_lifetime(
    signed_in: Page,
) -> None:
    assert signed_in.evaluate("document.cookie") == ""  # no script can read it
    signed_in.evaluate('window.source = listen("/events")')
    expect(signed_in.get_by_text("closed: lifetime").nth(1)).to_be_visible()
    expect(signed_in.get_by_text("order 1")).to_have_count(2)
    signed_in.evaluate("source.close()")


@pytest.mark.parametrize("listen", ['listen("/events")', "listenByTicket()"])
def test_what_the_page_says_to_type_shows_orders(
    page: Page, server: Server, listen: str
) -> None:
    typed = f'await post("/sign-in", {{ name: "ada" }}); {listen}'
    assert f"`{typed}`" in PAGE
    page.goto(f"{server.url}/openapi.json")
    page.add_script_tag(path=SCRIPT)
    page.evaluate(f"(async () => {{ {typed}; }})()")
    expect(page.get_by_text("order 1").first).to_be_visible()


def test_when_the_session_ends_it_closes_and_asks_no_more(page: Page) -> None:
    with uvicorn(APP, env={"TICK": "0.1", "SESSION": "3"}) as short:
        open_page(page, short)
        page.evaluate('window.source = listen("/events")')
        expect(page.get_by_text("closed: expired")).to_be_visible()
        assert page.evaluate("source.readyState") == CLOSED
        assert short.output().count("GET /events") == 1


def test_each_stream_by_a_ticket_uses_another_one(
    signed_in: Page, server: Server
) -> None:
    signed_in.evaluate("listenByTicket()")
    expect(signed_in.get_by_text("closed: lifetime").nth(1)).to_be_visible()
    signed_in.goto("about:blank")  # The page would go on for ever.
    lines = server.output().splitlines()
    asked = [line for line in lines if "/events?ticket=" in line]
    assert len({line.split('"')[1] for line in asked}) == len(asked)
    assert all(line.endswith("200 OK") for line in asked)


def test_by_a_ticket_it_asks_no_more_when_the_session_has_ended(page: Page) -> None:
    # The stream lasts, so that the session ends in it and not between two.
    with uvicorn(APP, env={"TICK": "0.1", "LIFETIME": "60"}) as lasting:
        open_page(page, lasting)
        page.evaluate("listenByTicket()")
        expect(page.get_by_text("order 1")).to_be_visible()
        page.evaluate('post("/sign-out")')
        expect(page.get_by_text("closed: revoked")).to_be_visible()
        assert lasting.output().count("POST /tickets") == 1


def test_attack_a_ticket_that_was_used_stops_an_eventsource(
    signed_in: Page, page_errors: list[str]
) -> None:
    """A page takes a ticket from a log: its EventSource gets a 401 and gives up."""
    ticket = signed_in.evaluate('post("/tickets")')
    listen = "(ticket) => { listen(`/events?ticket=${ticket}`); }"
    signed_in.evaluate(listen, ticket)
    expect(signed_in.get_by_text("closed: lifetime").first).to_be_visible()
    # It connects again by itself, with the ticket that has been used.
    expect(signed_in.get_by_text("the server said no")).to_be_visible()
    expect(signed_in.get_by_text("order 1")).to_have_count(1)
    page_errors.clear()  # The console says 401, as it should.
