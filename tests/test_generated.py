"""The lists of recipes and pitfalls are written from the pages and the docstrings."""

import re
import shutil
from pathlib import Path

import pytest

from cookbook import catalog, generated
from cookbook.catalog import ROOT, THEMES

PARTS = ["recipes", "docs/recipes", "docs/pitfalls", "docs/learn", "notebooks"]
FILES = ["README.md", "mkdocs.yml", "docs/index.md", "docs/notebooks.md"]


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """Give a copy of what the lists are made from."""
    for part in PARTS:
        shutil.copytree(ROOT / part, tmp_path / part)
    for file in FILES:
        shutil.copy(ROOT / file, tmp_path / file)
    return tmp_path


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


def test_a_title_is_changed_in_one_place(book: Path) -> None:
    page = book / "docs/recipes/csv_export.md"
    title = catalog.page("csv_export", book).title
    rewrite(page, f"title: {title}", "title: Rows for a spreadsheet")
    files = generated.files(book)
    entry = "      - Rows for a spreadsheet: recipes/csv_export.md\n"
    assert entry in files[book / "mkdocs.yml"]
    link = "[Rows for a spreadsheet](recipes/csv_export.md)"
    assert link in files[book / "docs/index.md"]


def test_what_stands_outside_of_the_marks_stays(book: Path) -> None:
    readme = book / "README.md"
    whole = readme.read_text("utf-8")
    start, end = "<!-- recipes -->\n", "<!-- end of recipes -->"
    spoiled = re.sub(f"(?<={start}).*(?={end})", "old\n", whole, flags=re.DOTALL)
    readme.write_text(spoiled + "\\1 more\n", "utf-8")
    assert generated.files(book)[readme] == whole + "\\1 more\n"


def test_every_symptom_is_in_the_index_with_its_anchor(book: Path) -> None:
    events = book / "docs/pitfalls/events.md"
    events.write_text(events.read_text("utf-8") + "\n## `id` lost\n\n## id lost\n")
    index = generated.files(book)[book / "docs/pitfalls/index.md"]
    assert "- [`id` lost](events.md#id-lost)\n" in index
    assert "- [id lost](events.md#id-lost_1)\n" in index


def test_a_theme_without_recipes_is_in_no_list(book: Path) -> None:
    for source in catalog.sources(book):
        if catalog.page(source.stem, book).theme == "tokens":
            source.unlink()
    readme = generated.files(book)[book / "README.md"]
    assert THEMES["tokens"] not in readme
    assert THEMES["events"] in readme


def test_a_file_without_its_marks_is_named(book: Path) -> None:
    rewrite(book / "mkdocs.yml", "# end of recipes and pitfalls", "#")
    with pytest.raises(ValueError, match=r"^mkdocs\.yml: the marks .* are missing$"):
        generated.files(book)


def test_main_writes_what_files_gives(
    book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = generated.files(book)
    rewrite(book / "docs/index.md", "| you want to |", "| you wish to |")
    monkeypatch.setattr(generated, "files", lambda: expected)
    generated.main()
    text = (book / "docs/index.md").read_text("utf-8")
    assert text == expected[book / "docs/index.md"]
