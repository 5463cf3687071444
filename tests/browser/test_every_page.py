"""Every page of the site: readable by all, on a phone too, small, and from one host."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Request, expect

from cookbook import site as house
from cookbook.background import serving
from cookbook.catalog import ROOT
from tests.kit import browser, node

pytestmark = pytest.mark.timeout(90)  # seconds; the site is built, a browser started

DOCS = ROOT / "docs"
# Pages include these, and `exclude_docs` in mkdocs.yml says the same.
NO_PAGES = ("benchmarks/", "pitfalls/of/", "clients/")
HERE = "http://127.0.0.1"

WEIGHT = 300_000  # bytes of a page with all that it loads, at most
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]
ALL = {"type": "tag", "values": TAGS}
# What colours and a narrow screen change.
SOME = {
    "type": "rule",
    "values": ["color-contrast", "link-in-text-block", "scrollable-region-focusable"],
}

# Code has thousands of coloured words, which differ only by their class: they have a
# test of their own. The frame is the same on every page: the first has it.
PREPARE = """(frame) => {
  for (const code of document.querySelectorAll("pre > code, code.highlight")) {
    code.textContent = code.textContent;
  }
  if (!frame) {
    for (const part of document.querySelectorAll(
      ".md-sidebar, .md-footer, .md-header__inner > :not(h1)"
    )) part.style.display = "none";
  }
}"""
TOKEN = re.compile(r'<span class="([a-z]\w{0,2})">([^<\s]{1,20})</span>')
TOKENS = """(tokens) => {
  const code = document.querySelector(".highlight pre > code");
  for (const [name, text] of Object.entries(tokens)) {
    const span = document.createElement("span");
    span.className = name;
    span.innerHTML = text;
    code.append(" ", span);
  }
}"""
AXE = """async (runOnly) => {
  const { violations } = await axe.run(document, {
    resultTypes: ["violations"],
    runOnly,
  });
  const bad = violations.filter(({ impact }) => /serious|critical/.test(impact));
  return bad.flatMap(({ id, nodes }) => nodes.map((node) => {
    const [first] = [...node.any, ...node.all, ...node.none];
    return `${id}: ${node.html.slice(0, 120)} ${first?.message ?? ""}`;
  }));
}"""
SCHEME = "scheme => document.body.setAttribute('data-md-color-scheme', scheme)"
LOADED = """() => {
  const all = [...performance.getEntriesByType("navigation"),
    ...performance.getEntriesByType("resource")];
  return all.filter(({ name }) => !/\\.woff2?$/.test(name))
    .map(({ encodedBodySize }) => encodedBodySize);
}"""


def address(source: Path) -> str:
    """Give the address of a page, relative to the site's."""
    name = source.relative_to(DOCS).with_suffix("").as_posix()
    return f"{name}/".removesuffix("index/")


PAGES = sorted(
    address(source)
    for source in DOCS.rglob("*.md")
    if not address(source).startswith(NO_PAGES)
)


@pytest.fixture(scope="module")
def site(built_site: Path) -> Iterator[str]:
    """Serve the built site and every recipe, as `cookbook serve` does."""
    with serving(house.create_app(built_site)) as address:
        yield f"{address}/"


@pytest.fixture(scope="module")
def hosts() -> set[str]:
    """Collect whom the pages ask."""
    return set()


@pytest.fixture(scope="module")
def reader(chromium: Browser, hosts: set[str]) -> Iterator[Page]:
    """Give one window in which all pages are opened, one after the other."""
    errors = list[str]()
    with browser.new_page(chromium, errors) as page:
        page.emulate_media(reduced_motion="reduce")
        page.on("request", lambda request: note(hosts, request))
        yield page
    assert errors == []


# The panels are there, and the browser has noted the size of all that was loaded, which
# it does a little later.
READY = """() => {
  const all = (parts) => [...document.querySelectorAll(parts)];
  return all("live-panel").every(
    (panel) => panel.dataset.mode || panel.hasAttribute("wrong")
  ) && all("img[src], script[src], link[rel=stylesheet]").every(
    ({ src, href }) => performance.getEntriesByName(src || href).length
  );
}"""


def note(hosts: set[str], request: Request) -> None:
    """Remember whom a page asks."""
    hosts.add(re.sub(r"^(\w+:(?://[^/:]*)?).*", r"\1", request.url, flags=re.S))


def test_each_page_is_known(built_site: Path) -> None:
    built = [path.relative_to(built_site) for path in built_site.rglob("index.html")]
    found = [path.as_posix().removesuffix("index.html") for path in built]
    assert sorted(found) == PAGES


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_light_fits_a_phone_and_can_be_read_by_all(
    reader: Page, site: str, path: str
) -> None:
    frame = path in {"", "pitfalls/", "recipes/plain_text/"}
    reader.set_viewport_size({"width": 1280, "height": 800})
    reader.goto(f"{site}{path}")
    reader.wait_for_function(READY)
    weight = sum(reader.evaluate(LOADED))
    assert 50_000 < weight < WEIGHT  # The theme's script and style are 50,000 already.
    reader.set_viewport_size({"width": 390, "height": 800})
    assert reader.evaluate("document.documentElement.scrollWidth") == 390
    # Dark on a phone, and light on a wide screen.
    reader.evaluate(PREPARE, frame)
    reader.evaluate((node.modules() / "axe-core/axe.min.js").read_text("utf-8"))
    reader.evaluate(SCHEME, "slate")
    assert reader.evaluate(AXE, ALL if frame else SOME) == []
    reader.set_viewport_size({"width": 1280, "height": 800})
    reader.evaluate(SCHEME, "default")
    assert reader.evaluate(AXE, ALL) == []


@pytest.mark.usefixtures("reader")
def test_no_page_asks_another_host(hosts: set[str]) -> None:
    assert hosts - {"data:", "blob:"} == {HERE}


@pytest.mark.parametrize("scheme", ["default", "slate"])
def test_every_colour_of_the_code_can_be_read(
    page: Page, site: str, built_site: Path, scheme: str
) -> None:
    tokens = dict[str, str]()
    for built in built_site.rglob("index.html"):
        tokens |= dict(TOKEN.findall(built.read_text("utf-8")))
    assert len(tokens) > 20
    page.emulate_media(reduced_motion="reduce")  # colours change at once
    page.goto(f"{site}recipes/plain_text/")
    page.evaluate(TOKENS, tokens)
    page.evaluate(SCHEME, scheme)
    page.add_script_tag(path=node.modules() / "axe-core/axe.min.js")
    assert page.evaluate(AXE, ALL) == []


@pytest.mark.parametrize("scheme", ["default", "slate"])
def test_a_link_under_the_pointer_can_be_read(
    page: Page, site: str, scheme: str
) -> None:
    page.emulate_media(reduced_motion="reduce")
    page.goto(f"{site}recipes/plain_text/")
    page.evaluate(SCHEME, scheme)
    page.add_script_tag(path=node.modules() / "axe-core/axe.min.js")
    link = page.locator("article > p > a[href]").first
    colour = "link => getComputedStyle(link).color"
    before = link.evaluate(colour)
    link.hover()
    assert link.evaluate(colour) != before
    assert page.evaluate(AXE, ALL) == []


@pytest.mark.parametrize("scheme", ["default", "slate"])
def test_what_was_run_and_found_is_readable_and_comes_from_here(
    page: Page, site: str, scheme: str
) -> None:
    hosts = set[str]()
    page.on("request", lambda request: note(hosts, request))
    page.emulate_media(reduced_motion="reduce")
    page.goto(f"{site}pitfalls/bytes/")
    page.wait_for_function(READY)
    page.evaluate(SCHEME, scheme)
    page.add_script_tag(path=node.modules() / "axe-core/axe.min.js")
    pair = page.locator("live-panel[wrong]").first
    pair.get_by_role("button", name="Run wrong and right").click()
    expect(pair).to_have_attribute("data-state", "done")
    assert page.evaluate(AXE, ALL) == []
    page.keyboard.press("/")
    page.keyboard.type("backpressure")
    expect(page.locator(".md-search-result__link").first).to_be_visible()
    assert page.evaluate(AXE, ALL) == []
    page.goto(f"{site}recipes/sse_basic/")
    panel = page.locator("live-panel").first
    expect(panel).to_have_attribute("data-mode", "live")
    page.evaluate(SCHEME, scheme)
    page.add_script_tag(path=node.modules() / "axe-core/axe.min.js")
    panel.locator(".lp-run").click()
    expect(panel).to_have_attribute("data-state", "done")
    assert page.evaluate(AXE, ALL) == []
    assert hosts - {"data:", "blob:"} == {HERE}
