"""docs/assets/pair.js: a wrong program and the right one, run at the same moment."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from playwright.sync_api import Locator, Page, expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from cookbook import catalog, site
from cookbook.background import serving
from cookbook.catalog import ROOT
from cookbook.museum import Museum
from recipes import plain_text

pytestmark = pytest.mark.timeout(60)  # seconds; a browser is started

DOCS = ROOT / "docs"
BURST = "plain_text/joined_before_sending"
CUT = "mid_stream_errors/raise_in_native_generator"
PANELS = f"""
<live-panel wrong="{BURST}" right="/async/1"></live-panel>
<live-panel wrong="{CUT}" right="/told-events"></live-panel>
<live-panel wrong="sse_basic/feed_without_end" right="/native" reconnect></live-panel>
<live-panel wrong="sse_resumable/id_as_number"></live-panel>
<live-panel wrong="stream_middleware/join_body"></live-panel>
"""
UNKNOWN = '<live-panel wrong="none/none"></live-panel>'


def page_of(request: Request) -> HTMLResponse:
    """Write a page with the panels, or with one that nothing is known of."""
    panels = UNKNOWN if "unknown" in request.query_params else PANELS
    return HTMLResponse(
        "<!doctype html><html lang=en><meta charset=utf-8><title>A page</title>"
        '<link rel="icon" href="data:,">'
        '<meta name="viewport" content="width=device-width">'
        '<link rel="stylesheet" href="assets/live.css">'
        '<script type="module" src="assets/live.js"></script>'
        f'<article class="md-typeset" style="padding: 1rem">{panels}</article>'
    )


def house(*, live: bool) -> Starlette:
    """Build a site in a sub-folder; `live` adds the museum and a recipe."""
    museum = Museum()
    recipe = site.Mounted(catalog.find("plain_text"))

    def index(_: Request) -> JSONResponse:
        if not live:
            return JSONResponse({"recipes": {}})
        wrong = {name: site.shown(museum.known[name]) for name in (BURST, CUT)}
        return JSONResponse(
            {"recipes": {"plain_text": recipe.about()}, "pitfalls": wrong}
        )

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with museum.open():
            yield

    routes = [
        Route("/page", page_of),
        Route("/live/index.json", index),
        Mount("/live/plain_text", plain_text.app),
        Mount("/transcripts", StaticFiles(directory=DOCS / "transcripts")),
        Mount("/assets", StaticFiles(directory=DOCS / "assets")),
        *museum.routes(),
    ]
    return Starlette(routes=[Mount("/book", routes=routes)], lifespan=lifespan)


@pytest.fixture(scope="module")
def live() -> Iterator[str]:
    """Serve the page with a museum."""
    with serving(house(live=True)) as url:
        yield f"{url}/book/page"


@pytest.fixture(scope="module")
def static() -> Iterator[str]:
    """Serve the page with recordings only."""
    with serving(house(live=False)) as url:
        yield f"{url}/book/page"


def panel(page: Page, name: str) -> Locator:
    """Give the panel of a pitfall, once it knows what it can do."""
    found = page.locator(f'live-panel[wrong="{name}"]')
    expect(found).to_have_attribute("data-mode", re.compile("."))
    return found


def run(page: Page, name: str) -> Locator:
    """Run a pair to its end, and give the panel."""
    found = panel(page, name)
    found.get_by_role("button", name="Run wrong and right").click()
    expect(found).to_have_attribute("data-state", "done")
    expect(found.get_by_role("status")).to_have_text("Both have ended.")
    return found


def sides(found: Locator) -> tuple[Locator, Locator]:
    """Give the wrong and the right half of a panel."""
    return found.locator(".lp-wrong"), found.locator(".lp-right")


def fact(side: Locator, name: str) -> str:
    """Give a number of one half."""
    return side.locator(f'[data-fact="{name}"]').inner_text()


def ended(side: Locator) -> str:
    """Give how one half ended."""
    return side.locator(".lp-ended").inner_text()


def axis(side: Locator) -> list[str]:
    """Give the labels of the time axis."""
    labels = side.locator(".lp-timeline text").all_text_contents()
    return labels[labels.index("0") :]  # Before it stands the size of a bar.


def test_both_are_run_live_on_one_time_axis(page: Page, live: str) -> None:
    page.goto(live)
    found = run(page, BURST)
    wrong, right = sides(found)
    expect(wrong.locator(".lp-title")).to_contain_text("✗ Wrong: GET /slip/1")
    expect(right.locator(".lp-title")).to_contain_text("✓ Right: GET /async/1")
    expect(wrong).to_contain_text(f"in recipes/pitfalls/{BURST}.py")
    expect(right).to_contain_text("in recipes/plain_text.py")
    # All at once, against one after the other: the same bytes.
    assert fact(wrong, "chunks") == "1"
    assert int(fact(right, "chunks")) > 1
    assert fact(wrong, "bytes") == fact(right, "bytes") == "78"
    assert axis(wrong) == axis(right)
    came = right.get_by_role("region", name="What the right program sent")
    expect(came).to_contain_text("packed: honey")
    assert "It ended as complete: 78 bytes" in ended(right)


def test_an_answer_that_breaks_off_is_seen_live(
    page: Page, live: str, page_errors: list[str]
) -> None:
    page.goto(live)
    wrong, right = sides(run(page, CUT))
    assert ended(wrong).startswith("It broke off")
    assert ended(right).startswith("It ended as complete: 4 events")
    assert "ERR_INCOMPLETE_CHUNKED_ENCODING" in page_errors.pop()


def test_a_pitfall_that_cannot_be_started_is_reported(
    page: Page, live: str, page_errors: list[str]
) -> None:
    page.route(
        "**/pitfalls-live/**", lambda route: route.fulfill(status=503, body="No")
    )
    page.goto(live)
    found = panel(page, BURST)
    found.locator(".lp-run").click()
    expect(found).to_have_attribute("data-state", "failed")
    expect(found.get_by_role("status")).to_have_text("No")
    assert "503" in page_errors.pop()


def test_a_static_site_replays_the_recordings(page: Page, static: str) -> None:
    page.goto(static)
    cut = run(page, CUT)
    expect(cut.locator(".lp-note")).to_have_text(
        "Replay of a recorded run: start make serve for the live streams."
    )
    wrong, right = sides(cut)
    assert ended(wrong) == "It broke off after 2 events, 60 bytes. No word says why."
    assert ended(right).startswith("It ended as complete: 4 events")
    wrong, right = sides(run(page, "stream_middleware/join_body"))
    assert ended(wrong) == "Nothing came in 1.5 s. Then the panel left."
    assert ended(right).startswith("It was still open after 1.5 s, with ")
    assert axis(wrong) == axis(right)


def test_a_feed_without_an_end_is_asked_again_and_again(
    page: Page, static: str
) -> None:
    page.goto(static)
    found = panel(page, "sse_basic/feed_without_end")
    refused = panel(page, "sse_resumable/id_as_number")
    for one in (found, refused):
        one.locator(".lp-run").click()
    for one in (found, refused):
        expect(one).to_have_attribute("data-state", "done")
    wrong, right = sides(found)
    assert re.fullmatch(
        r"It was asked \d+ times in 5 s, and would be for ever.", ended(wrong)
    )
    assert int(fact(wrong, "events")) > 4
    assert ended(right).startswith("Its client closed at the event end: 6 events")
    assert ended(sides(refused)[0]) == "Refused with 422 Unprocessable Entity."


def test_the_keyboard_alone_runs_and_stops_it(page: Page, static: str) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    page.goto(static)
    found = panel(page, "sse_basic/feed_without_end")
    found.locator(".lp-run").focus()
    page.keyboard.press("Enter")
    expect(found).to_have_attribute("data-state", "running")
    expect(found.locator(".lp-right")).to_contain_text("6 events", timeout=15_000)
    page.keyboard.press("Escape")
    expect(found).to_have_attribute("data-state", "done")
    assert ended(sides(found)[0]).startswith("Stopped after ")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    focused = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert focused == "What the wrong program sent"


def test_without_server_and_recording_the_panel_says_what_it_needs(
    page: Page, static: str, page_errors: list[str]
) -> None:
    page.goto(f"{static}?unknown")
    found = panel(page, "none/none")
    expect(found.locator(".lp-note")).to_contain_text("start make serve")
    expect(found.locator(".lp-run")).to_have_attribute("aria-disabled", "true")
    found.locator(".lp-run").click(force=True)
    expect(found).to_have_attribute("data-state", "idle")
    assert "404" in page_errors.pop()  # There is no recording.
