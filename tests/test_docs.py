"""The site: it builds strictly, by both builders, and loads nothing from elsewhere."""

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import pytest

from cookbook import course
from cookbook.catalog import ROOT
from tests.kit.docs import mkdocs

SITE = "http://site.invalid/"


class Page(HTMLParser):
    """Collect what a page defines, links to, and loads."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the ids, links and sources of one tag."""
        given = {name: value or "" for name, value in attrs}
        if "id" in given:
            self.ids.add(given["id"])
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if "src" in given:
            self.loads.append(given["src"])
        if tag == "link" and given.get("rel") not in {"canonical", "prev", "next"}:
            self.loads.append(given["href"])


@pytest.fixture(scope="module")
def site(built_site: Path) -> dict[str, Page]:
    """Give the pages of the site by their path."""
    return {
        path.relative_to(built_site).as_posix().removesuffix("index.html"): Page(
            path.read_text("utf-8")
        )
        for path in built_site.rglob("*.html")
        if "assets" not in path.parts and "clients" not in path.parts
    }


@pytest.mark.timeout(120)
def test_every_page_of_the_docs_is_built(site: dict[str, Page]) -> None:
    pages = {p.relative_to(ROOT / "docs") for p in (ROOT / "docs").rglob("*.md")}
    parts = ("benchmarks/", "pitfalls/of/")  # which pages include
    shown = {p for p in pages if not p.as_posix().startswith(parts)}
    for page in shown:
        url = "" if page.stem == "index" else f"{page.with_suffix('').as_posix()}/"
        assert url in site, f"{page} is not built"


@pytest.mark.timeout(120)
def test_no_link_and_no_anchor_is_broken(site: dict[str, Page]) -> None:
    for url, page in site.items():
        if url == "404.html":
            continue  # It is shown at any address, so its links are absolute.
        for link in page.links:
            target, anchor = urldefrag(urljoin(SITE + url, link))
            if target.startswith(course.LAB):
                continue  # the reader's own JupyterLab; tests/test_notebooks.py asks it
            if not target.startswith(SITE):
                assert urlsplit(target).scheme == "https", f"{url}: {link}"
                continue
            path = target.removeprefix(SITE)
            assert path in site, f"{url} links to {link}, which is not there"
            there = not anchor or unquote(anchor) in site[path].ids
            assert there, f"{url} links to {link}, which has no such anchor"


@pytest.mark.timeout(120)
def test_nothing_is_loaded_from_another_host(site: dict[str, Page]) -> None:
    foreign = {
        (url, load)
        for url, page in site.items()
        for load in page.loads
        if urlsplit(load).netloc or load.startswith("//")
    }
    assert foreign == set()


@pytest.mark.timeout(120)
def test_zensical_builds_the_same_pages(site: dict[str, Page], tmp_path: Path) -> None:
    config = (ROOT / "mkdocs.yml").read_text("utf-8")
    tree = tmp_path / "tree"
    for part in ("docs", "recipes", "tests"):
        shutil.copytree(ROOT / part, tree / part)
    (tree / "mkdocs.yml").write_text(config, "utf-8")
    zensical = Path(sys.executable).with_name("zensical")
    done = subprocess.run(
        [zensical, "build", "--clean"], cwd=tree, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for url in site:
        if url and not url.endswith(".html"):
            html = (tree / "site" / url / "index.html").read_text("utf-8")
            assert "--8<--" not in re.sub(r"(?s)<pre.*?</pre>", "", html), url


FAULTS = [
    ("could not be found", '--8<-- "recipes/none.py"'),
    ("could not be located", '--8<-- "recipes/plain_text.py:none"'),
    ("none.md", "[broken](none.md)"),
    ("#none", "[broken](pitfalls.md#none)"),
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("complaint", "line"), FAULTS)
def test_a_broken_page_fails_the_build(
    complaint: str, line: str, tmp_path: Path
) -> None:
    for part in ("recipes", "tests"):
        (tmp_path / part).symlink_to(ROOT / part)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/index.md").write_text(f"# Page\n\n{line}\n", "utf-8")
    (tmp_path / "docs/pitfalls.md").write_text("# Pitfalls\n", "utf-8")
    config = (ROOT / "mkdocs.yml").read_text("utf-8")
    nav = re.compile(r"^nav:.*?(?=^\w)", re.MULTILINE | re.DOTALL)
    (tmp_path / "mkdocs.yml").write_text(nav.sub("", config), "utf-8")
    done = mkdocs(tmp_path, tmp_path / "site")
    assert done.returncode != 0
    assert complaint in done.stdout + done.stderr
