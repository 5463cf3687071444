"""The built site: its search leads to each symptom, its pages fit a phone."""

import re
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.kit import browser
from tests.kit.servers import in_a_thread

pytestmark = pytest.mark.timeout(120)  # seconds; the site is built, a browser started

# What people type who do not know our words, and where the answer is.
PLACES = {
    "all chunks arrive at once": r"production/diagnosis/",
    "429": r"pitfalls/tokens/#429-",
    "EventSource reconnects for ever": r"pitfalls/\w+/#.*reconnects-for-ever",
    "buffering": r"pitfalls/\w+/#.*buffering",
    "client disconnected": r"pitfalls/\w+/#.*client.*disconnected",
    "chat": r"recipes/llm_chat/",
    "csv": r"recipes/csv_export/",
    "export a table": r"recipes/csv_export/",
    "plain text": r"recipes/(plain|llm)_text/|learn/wire_formats/#plain-text",
    "server-sent events": r"recipes/sse_basic/",
}
MARKS = re.compile(r"[^\w\s-]")  # what many leave out when they type

# The theme ranks by its own score, and Enter opens the best: so "first" means that.
SEARCH = """async (query) => {
  const result = document.querySelector("[data-md-component=search-result]");
  const answered = new Promise((resolve) => new MutationObserver((_, observer) => {
    observer.disconnect();
    setTimeout(resolve); // the theme has put the whole list in place by then
  }).observe(result, { childList: true, subtree: true }));
  const field = document.querySelector("[data-md-component=search-query]");
  field.value = query;
  field.dispatchEvent(new KeyboardEvent("keyup"));
  await answered;
  const score = (link) => Number(link.querySelector("article").dataset.mdScore);
  const links = [...result.querySelectorAll("li:first-of-type > a")];
  const best = links.sort((a, b) => score(b) - score(a))[0];
  if (!best) return null;
  const { pathname, hash } = new URL(best.href);
  return pathname.slice(1) + decodeURIComponent(hash);
}"""

# The headings of the pitfalls: their address and their text.
HEADINGS = """async () => {
  const { docs } = await (await fetch("/search/search_index.json")).json();
  const paths = new Set(docs.map(({ location }) => location.split("#")[0]));
  const found = {};
  for (const path of paths) {
    if (!/^pitfalls\\/./.test(path)) continue;
    const html = await (await fetch(`/${path}`)).text();
    const page = new DOMParser().parseFromString(html, "text/html");
    for (const heading of page.querySelectorAll("article h2[id]")) {
      heading.querySelector(".headerlink")?.remove();
      found[`${path}#${heading.id}`] = heading.textContent.trim();
    }
  }
  return found;
}"""


class Quiet(SimpleHTTPRequestHandler):
    """Serves files without a word."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture(scope="module")
def site(built_site: Path) -> Iterator[str]:
    """Serve the built site on a free port."""
    handler = partial(Quiet, directory=str(built_site))
    with in_a_thread(ThreadingHTTPServer(("127.0.0.1", 0), handler)) as address:
        yield f"{address}/"


@pytest.fixture(scope="module")
def search(chromium: Browser, site: str) -> Iterator[Page]:
    """Open the site's search in one page for all queries."""
    errors: list[str] = []
    with browser.new_page(chromium, errors) as page:
        page.goto(site)
        page.get_by_role("textbox", name="Search").focus()
        expect(page.locator(".md-search-result__meta")).to_have_text(
            "Type to start searching"
        )
        yield page
    assert errors == []


@pytest.fixture(scope="module")
def symptoms(search: Page) -> dict[str, str]:
    """Give the heading of every pitfall, by its address."""
    found: dict[str, str] = search.evaluate(HEADINGS)
    assert len(found) >= 17
    return found


def first(search: Page, query: str) -> str:
    """Type a query and give the address of the best result."""
    return str(search.evaluate(SEARCH, query) or "nothing")


def test_every_symptom_is_found_first_when_it_is_typed(
    search: Page, symptoms: dict[str, str]
) -> None:
    found = {symptom: first(search, symptom) for symptom in symptoms.values()}
    assert found == {symptom: address for address, symptom in symptoms.items()}


def test_a_symptom_is_found_without_its_capitals_and_marks(
    search: Page, symptoms: dict[str, str]
) -> None:
    typed = {a: MARKS.sub("", symptom).lower() for a, symptom in symptoms.items()}
    found = {address: first(search, query) for address, query in typed.items()}
    assert found == {address: address for address in symptoms}


@pytest.mark.parametrize(("query", "place"), PLACES.items())
def test_other_words_for_it_lead_there_too(
    search: Page, query: str, place: str
) -> None:
    found = first(search, query)
    assert re.match(place, found), f"{query!r} leads to {found}"


@pytest.mark.parametrize("query", ["", "zxcvb"])
def test_a_query_that_nothing_answers_finds_nothing(search: Page, query: str) -> None:
    first(search, "csv")
    assert first(search, query) == "nothing"


def test_a_wide_table_scrolls_on_a_phone_and_keeps_its_first_column_in_sight(
    page: Page, site: str
) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(f"{site}recipes/csv_export/")
    table = page.locator(".md-typeset__scrollwrap").filter(has_text="Rows/s")
    expect(table).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    table.evaluate("box => box.scrollLeft = box.scrollWidth")
    for cell in ("tbody tr:first-child td:first-child", "thead th:last-child"):
        box = table.locator(cell).bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390


# The commands of which a line lies below the button that copies it, and the headings
# whose mark stands in a line of its own.
CROWDED = """() => {
  const boxes = (from, to) => {
    const range = document.createRange();
    range.setStart(from, 0);
    range.setEndBefore(to);
    return [...range.getClientRects()].filter(({ width }) => width);
  };
  const found = [];
  for (const code of document.querySelectorAll(".language-bash code")) {
    const button = code.parentElement.querySelector("button").getBoundingClientRect();
    const end = code.appendChild(document.createElement("i"));
    const below = boxes(code, end).some(({ left, right, top, bottom }) =>
      right > button.left && left < button.right &&
      bottom > button.top && top < button.bottom);
    if (below) found.push(code.textContent);
  }
  for (const mark of document.querySelectorAll("h2 > .headerlink")) {
    const last = boxes(mark.parentElement, mark).at(-1);
    if (mark.getBoundingClientRect().top > last.bottom - 4) {
      found.push(mark.parentElement.textContent);
    }
  }
  return found;
}"""


@pytest.mark.parametrize("width", [390, 1280])
def test_no_command_lies_below_its_button_and_no_mark_in_a_line_of_its_own(
    page: Page, site: str, width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    for path in ("recipes/csv_export/", "pitfalls/events/", "pitfalls/bytes/"):
        page.goto(f"{site}{path}")
        expect(page.locator(".language-bash button").first).to_be_attached()
        assert page.evaluate(CROWDED) == []
