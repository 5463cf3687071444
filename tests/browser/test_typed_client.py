"""docs/recipes/typed_client.md: the React hook and its wrong versions, in a browser."""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Page, expect

from tests.kit import servers
from tests.kit import typed_client as kit
from tests.kit.servers import Server, until, uvicorn

pytestmark = pytest.mark.timeout(servers.START + 120)  # npm may have to install

WATCHED = "tests.servers.watched_typed_client:app"
ALL = [
    "placed: tea, teapot",
    "paid: 34.8 €",
    "shipped with Snail & Sons, expected 2030-01-31",
    "delivered, signed by nobody",
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Build the page for development, and serve it with the recipe."""
    client = kit.copied(tmp_path_factory.mktemp("typed_client"))
    kit.run(f"node_modules/.bin/{kit.script('build')} --log-level=error", client)
    with uvicorn(WATCHED, env={"PAGE": str(client / "dist")}) as running:
        yield running


@pytest.fixture
def led(server: Server, page: Page) -> Iterator[Server]:
    """Give that server, begun anew; no stream of an earlier test is open."""
    until(lambda: counts(server)["open"] == 0, "the earlier page's streams to end")
    yield plan(server)
    page.goto("about:blank")


def plan(server: Server, allowed: int = 9, **fault: list[dict[str, Any]]) -> Server:
    """Say which events come, and what goes wrong with the next requests."""
    told = {"allowed": allowed, **fault}
    httpx2.post(f"{server.url}/plan", json=told).raise_for_status()
    return server


def allow(server: Server, number: int) -> None:
    """Let the events up to this number come."""
    httpx2.post(f"{server.url}/allow/{number}").raise_for_status()


def counts(server: Server) -> dict[str, Any]:
    """Ask what was asked, and what is open."""
    found: dict[str, Any] = httpx2.get(f"{server.url}/counts").json()
    return found


def expect_events(page: Page, events: list[str]) -> None:
    """Wait until the page shows these events and no others."""
    expect(page.locator("#events li")).to_have_text(events)


def test_strictmode_doubles_nothing(led: Server, page: Page) -> None:
    page.goto(led.url)
    expect(page.locator("#status")).to_have_text("complete")
    expect_events(page, ALL)
    expect(page.locator("#told li")).to_have_count(4)
    # Not even a request: the first run of the effect was over before it asked.
    assert counts(led)["asked"] == [""]


def test_without_a_clean_up_it_doubles_everything(
    led: Server, page: Page, page_errors: list[str]
) -> None:
    page.goto(f"{led.url}/wrong.html?use=doubled")
    expect(page.locator("#events li")).to_have_count(8)
    assert counts(led)["asked"] == ["", ""]
    assert {"Encountered two children with the same key" in e for e in page_errors} == {
        True
    }
    page_errors.clear()


def test_onevent_is_the_one_of_the_latest_render(led: Server, page: Page) -> None:
    plan(led, allowed=1)
    page.goto(led.url)
    expect_events(page, ALL[:1])
    page.get_by_label("Tell").fill("Zoë")
    allow(led, 2)
    expect(page.locator("#told li")).to_have_text(["Ada: placed", "Zoë: paid"])
    expect_events(page, ALL[:2])
    # Another name is no reason to begin the stream anew.
    assert counts(led)["asked"] == [""]


def test_a_stale_closure_has_the_old_name_and_forgets(led: Server, page: Page) -> None:
    plan(led, allowed=1)
    page.goto(f"{led.url}/wrong.html?use=stale")
    expect_events(page, ALL[:1])
    page.get_by_label("Tell").fill("Zoë")
    allow(led, 2)
    expect(page.locator("#told li")).to_have_text(["Ada: placed", "Ada: paid"])
    expect_events(page, ALL[1:2])


def test_unmount_stops_the_stream(led: Server, page: Page) -> None:
    plan(led, allowed=1)
    page.goto(led.url)
    expect_events(page, ALL[:1])
    assert counts(led)["open"] == 1
    page.get_by_role("button", name="Hide").click()
    until(lambda: counts(led)["open"] == 0, "the server to close the stream")
    page.get_by_role("button", name="Show").click()
    allow(led, 9)
    expect_events(page, ALL)
    assert counts(led)["asked"] == ["", ""]


def test_without_a_clean_up_two_streams_stay_open(
    led: Server, page: Page, page_errors: list[str]
) -> None:
    plan(led, allowed=1)
    page.goto(f"{led.url}/wrong.html?use=doubled")
    expect(page.locator("#events li")).to_have_count(2)
    assert counts(led)["open"] == 2
    page_errors.clear()  # React's warning, as above


def test_stop_ends_the_stream_and_keeps_what_came(led: Server, page: Page) -> None:
    plan(led, allowed=2)
    page.goto(led.url)
    expect_events(page, ALL[:2])
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#status")).to_have_text("stopped")
    until(lambda: counts(led)["open"] == 0, "the server to close the stream")
    expect_events(page, ALL[:2])
    expect(page.get_by_role("button", name="Stop")).to_be_disabled()


def test_another_order_is_another_stream_from_its_first_event(
    led: Server, page: Page
) -> None:
    plan(led, allowed=2)
    page.goto(led.url)
    expect_events(page, ALL[:2])
    page.get_by_role("button", name="Next order").click()
    expect(page.locator("section")).to_contain_text("Order 8")
    expect_events(page, ALL[:2])
    until(lambda: counts(led)["open"] == 1, "the first stream to end")
    assert counts(led)["asked"] == ["", ""]


def test_a_stream_that_is_cut_goes_on(led: Server, page: Page) -> None:
    plan(led, faults=[{"cut": 60}])
    page.goto(led.url)
    expect_events(page, ALL)
    expect(page.locator("#status")).to_have_text("complete")
    assert counts(led)["asked"] == ["", "7-1"]


WHOLE = (
    'data: {"type":"placed","items":["tea"]}\nid: 7-1\n\n'
    'data: {"type":"delivered","signed_by":"Zoë"}\nid: 7-4\n\n'
)
SHOWN = ["placed: tea", "delivered, signed by Zoë"]


HALF = 'data: {"type":"placed",'


@pytest.mark.parametrize(
    ("address", "shown"), [("/", SHOWN), ("/wrong.html?use=perChunk", SHOWN[:1])]
)
def test_two_events_in_one_chunk_are_one_to_who_takes_chunks_for_events(
    address: str, shown: list[str], led: Server, page: Page
) -> None:
    plan(led, faults=[{"body": WHOLE}] * 2)
    # The right one hangs up after the last event, so its request need not finish.
    ended = page.expect_event("requestfinished", lambda r: "/orders/" in r.url)
    with ended if shown != SHOWN else nullcontext():
        page.goto(f"{led.url}{address}")
    expect_events(page, shown)


def test_half_an_event_is_a_syntax_error_to_it(led: Server, page: Page) -> None:
    plan(led, faults=[{"body": HALF}] * 2)
    page.goto(f"{led.url}/wrong.html?use=perChunk")
    expect(page.locator("#status")).to_have_text("failed")


def test_hostile_text_stays_text(led: Server, page: Page) -> None:
    """Attack: An event holds HTML: React shows it as text."""
    hostile = "<img src=x onerror=document.title='owned'>"
    data = '{"type":"delivered","signed_by":"' + hostile + '"}'
    plan(led, faults=[{"body": f"data: {data}\n\n"}])
    page.goto(led.url)
    expect_events(page, [f"delivered, signed by {hostile}"])
    assert page.locator("img").count() == 0
    assert page.title() == "typed_client"


def test_a_refusal_is_shown_and_nothing_is_asked_again(
    led: Server, page: Page, page_errors: list[str]
) -> None:
    plan(led, faults=[{"status": 404}])
    page.goto(led.url)
    expect(page.locator("#status")).to_have_text("failed")
    assert counts(led)["asked"] == [""]
    assert "404" in page_errors.pop()
