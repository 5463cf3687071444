"""The site by keyboard alone, and for a reader who has asked for less motion."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from cookbook import site as house
from cookbook.background import serving

pytestmark = pytest.mark.timeout(90)  # seconds; the site is built, a browser started

FOCUSED = "document.activeElement"
# An outline, or a box that has one for what lies in it.
IS_SEEN = """() => {
  let box = document.activeElement;
  for (let up = 0; box && up < 3; up++, box = box.parentElement) {
    const { outlineStyle, outlineWidth } = getComputedStyle(box);
    if (outlineStyle !== "none" && parseFloat(outlineWidth) > 0) return true;
  }
  return false;
}"""
MOVES = """() => [...document.querySelectorAll("*")].filter((part) => {
  const style = getComputedStyle(part);
  return style.scrollBehavior === "smooth" || style.animationName !== "none" ||
    style.transitionDuration.split(",").some((time) => parseFloat(time) > 0);
}).map((part) => part.outerHTML.slice(0, 80))"""


@pytest.fixture(scope="module")
def site(built_site: Path) -> Iterator[str]:
    """Serve the built site and every recipe."""
    with serving(house.create_app(built_site)) as address:
        yield f"{address}/"


def tab_to(page: Page, wanted: Locator) -> None:
    """Press Tab until the wanted part has the focus, and can be seen to have it."""
    for _ in range(150):
        page.keyboard.press("Tab")
        if wanted.evaluate(f"part => part === {FOCUSED}"):
            assert page.evaluate(IS_SEEN), "nothing shows where the keyboard is"
            return
    pytest.fail(f"Tab does not get to {wanted}")


def test_a_panel_runs_stops_and_shows_its_views(page: Page, site: str) -> None:
    page.goto(f"{site}recipes/sse_basic/")
    panel = page.locator("live-panel").first
    expect(panel).to_have_attribute("data-mode", "live")
    tab_to(page, page.locator(".md-skip"))
    page.keyboard.press("Enter")
    tab_to(page, panel.locator(".lp-run"))
    page.keyboard.press("Enter")
    expect(panel).to_have_attribute("data-state", re.compile("running|done"))
    tab_to(page, panel.locator("[value=raw]"))
    page.keyboard.press("Enter")
    expect(panel).to_have_attribute("data-view", "raw")
    expect(panel.locator(".lp-text")).to_contain_text("data:")


def test_escape_stops_a_stream(page: Page, site: str) -> None:
    page.goto(f"{site}recipes/sse_keepalive/")
    panel = page.locator("live-panel").first
    expect(panel).to_have_attribute("data-mode", "live")
    tab_to(page, panel.locator(".lp-run"))
    page.keyboard.press("Enter")
    expect(panel).to_have_attribute("data-state", "running")
    page.keyboard.press("Escape")
    expect(panel).to_have_attribute("data-state", "stopped")


def test_the_arrows_choose_a_tab_and_enter_opens_what_is_folded(
    page: Page, site: str
) -> None:
    page.goto(f"{site}recipes/plain_text/")
    tabs = page.locator(".tabbed-set").first
    tab_to(page, tabs.locator("input").first)
    page.keyboard.press("ArrowRight")
    expect(tabs.locator("input").nth(1)).to_be_checked()
    expect(tabs.locator(".tabbed-block").nth(1)).to_be_visible()
    folded = page.locator("article details").last
    tab_to(page, folded.locator("summary"))
    page.keyboard.press("Enter")
    expect(folded).to_have_attribute("open", "")


def test_enter_changes_the_colours(page: Page, site: str) -> None:
    page.goto(site)
    body = page.locator("body")
    expect(body).to_have_attribute("data-md-color-scheme", "default")
    tab_to(page, page.get_by_role("radio", name="Switch to dark"))
    page.keyboard.press("Enter")
    expect(body).to_have_attribute("data-md-color-scheme", "slate")
    page.keyboard.press("Enter")
    expect(body).to_have_attribute("data-md-color-scheme", "default")


def test_the_menu_of_a_phone_leads_to_a_page(page: Page, site: str) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    page.emulate_media(reduced_motion="reduce")
    page.goto(site)
    menu = page.locator(".md-sidebar--primary")
    expect(menu).not_to_be_visible()
    tab_to(page, page.get_by_role("button", name="Menu"))
    page.keyboard.press("Enter")
    expect(menu).to_be_visible()
    tab_to(page, menu.locator("label.md-nav__link", has_text="Learn"))
    page.keyboard.press("Enter")
    link = menu.get_by_role("link", name="Backpressure")
    tab_to(page, link)
    page.keyboard.press("Enter")
    expect(page).to_have_title(re.compile("^Backpressure"))


def test_a_closed_menu_is_passed_over(page: Page, site: str) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(site)
    for _ in range(12):
        page.keyboard.press("Tab")
        assert page.evaluate(f"!{FOCUSED}.closest('.md-sidebar--primary')")


def test_another_request_is_chosen_run_and_stopped(page: Page, site: str) -> None:
    page.goto(f"{site}recipes/sse_keepalive/")
    panel = page.locator("live-panel").first
    expect(panel).to_have_attribute("data-mode", "live")
    request = panel.get_by_role("combobox", name="Request")
    tab_to(page, request)
    first = request.input_value()
    page.keyboard.press("ArrowDown")
    expect(request).not_to_have_value(first)
    tab_to(page, panel.locator(".lp-run"))
    page.keyboard.press("Enter")
    expect(panel).to_have_attribute("data-state", "running")
    tab_to(page, panel.locator(".lp-stop"))
    page.keyboard.press("Enter")
    expect(panel).to_have_attribute("data-state", "stopped")


def test_wrong_and_right_are_run_and_stopped(page: Page, site: str) -> None:
    page.goto(f"{site}pitfalls/events/")
    pair = page.locator('live-panel[wrong="sse_basic/feed_without_end"]')
    expect(pair).to_have_attribute("data-mode", "live")
    pair.get_by_role("button", name="Run wrong and right").focus()
    page.keyboard.press("Enter")
    expect(pair).to_have_attribute("data-state", "running")
    tab_to(page, pair.get_by_role("button", name="Stop"))
    page.keyboard.press("Enter")
    expect(pair).to_have_attribute("data-state", "stopped")


def test_the_search_opens_at_a_key_finds_and_closes(page: Page, site: str) -> None:
    page.goto(site)
    names = "() => performance.getEntriesByType('resource').map(({ name }) => name)"
    assert not any("search_index" in name for name in page.evaluate(names))
    page.keyboard.press("/")
    page.keyboard.type("Cache-Control: no-cache")
    found = page.locator(".md-search-result__link")
    expect(found.first).to_be_attached()
    page.keyboard.press("Escape")
    expect(page.get_by_role("textbox", name="Search")).not_to_be_focused()
    assert any("search_index" in name for name in page.evaluate(names))


def test_less_motion_means_no_stream_by_itself_and_nothing_that_moves(
    page: Page, site: str
) -> None:
    page.emulate_media(reduced_motion="reduce")
    page.goto(site)
    panel = page.locator("live-panel[autostart]")
    expect(panel).to_have_attribute("data-mode", "live")
    assert panel.get_attribute("data-state") == "idle"
    assert page.evaluate(MOVES) == []
    page.emulate_media(reduced_motion="no-preference")
    page.reload()
    expect(panel).to_have_attribute("data-state", re.compile("running|done"))
