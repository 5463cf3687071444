"""docs/production/workers.md: each recipe has its row, which its page bears out."""

import re

import pytest

from cookbook import catalog
from cookbook.catalog import ROOT
from tests.kit import workers

SLUGS = [recipe.slug for recipe in catalog.recipes()]


def test_the_table_is_up_to_date() -> None:
    kept = workers.TABLE.read_text("utf-8")
    assert kept == workers.table(), "run python -m tests.kit.workers"


@pytest.mark.parametrize("slug", SLUGS)
def test_what_a_row_names_is_in_the_recipe(slug: str) -> None:
    what, why = workers.WORKERS[slug]
    source = (ROOT / "recipes" / f"{slug}.py").read_text("utf-8")
    page = (ROOT / "docs/recipes" / f"{slug}.md").read_text("utf-8")
    named = re.findall("`([A-Z_]+)`", why)
    for name in named:
        # DBOS reads its own variables; the page exports what is in the row.
        assert f'os.environ.get("{name}")' in source or f"export {name}=" in page
    assert bool(named) is (what == workers.SHARE)


@pytest.mark.parametrize("slug", SLUGS)
def test_a_row_that_says_more_than_nothing_is_on_the_page(slug: str) -> None:
    what, _ = workers.WORKERS[slug]
    page = (ROOT / "docs/recipes" / f"{slug}.md").read_text("utf-8")
    silent = {"file_download", "file_upload", "ndjson_database"}
    if what != workers.SAME and slug not in silent:
        assert re.search("[Ww]orkers?", page)
