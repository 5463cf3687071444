"""The tie: every recipe has its page, test, transcript, nav entry and notebook.

The checks are in tests/kit/tie.py. Each is run on this repository, where it finds
nothing, and on a copy with one fault, where it names that fault in one line.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cookbook.catalog import ROOT
from tests.kit import tie

Fault = Callable[[Path], object]

PARTS = [
    *("recipes", "docs", "notebooks", "benchmarks", "tests/recipes", "tests/pitfalls"),
    *("README.md", "mkdocs.yml", "Makefile"),
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("check", tie.CHECKS, ids=lambda check: check.__name__)
def test_this_repository_holds_together(check: tie.Check) -> None:
    assert list(check(ROOT)) == []


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Give a copy of all that the checks look at."""
    for part in PARTS:
        target = tmp_path / part
        target.parent.mkdir(exist_ok=True)
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, target)
        else:
            shutil.copy(ROOT / part, target)
    return tmp_path


def edit(file: str, old: str, new: str) -> Fault:
    """Make a fault that replaces a text that must be there."""

    def fault(root: Path) -> None:
        text = (root / file).read_text("utf-8")
        assert old in text, f"{file} no longer holds {old!r}"
        (root / file).write_text(text.replace(old, new), "utf-8")

    return fault


def remove(file: str) -> Fault:
    """Make a fault that takes a file away."""
    return lambda root: (root / file).unlink()


def add(file: str, text: str = "") -> Fault:
    """Make a fault that adds a file."""
    return lambda root: (root / file).write_text(text, "utf-8")


def append(file: str, text: str) -> Fault:
    """Make a fault that adds to the end of a file."""

    def fault(root: Path) -> None:
        with (root / file).open("a", encoding="utf-8") as opened:
            opened.write(text)

    return fault


PLAIN, PAGE = "recipes/plain_text.py", "docs/recipes/plain_text.md"

FAULTS: list[tuple[tie.Check, str, Fault]] = [
    # What is missing from a room.
    (
        tie.every_room_has_every_recipe,
        "plain_text.py lacks its page docs/recipes/plain_text.md",
        remove(PAGE),
    ),
    (
        tie.every_room_has_every_recipe,
        "plain_text.py lacks its test tests/recipes/test_plain_text.py",
        remove("tests/recipes/test_plain_text.py"),
    ),
    (
        tie.every_room_has_every_recipe,
        "csv_export.py lacks its transcript docs/transcripts/csv_export.txt",
        remove("docs/transcripts/csv_export.txt"),
    ),
    (
        tie.every_room_has_every_recipe,
        "csv_export.py lacks its nav entry recipes/csv_export.md",
        edit("mkdocs.yml", "recipes/csv_export.md", "index.md"),
    ),
    (
        tie.every_room_has_every_recipe,
        "sse_basic.py lacks its link on docs/index.md",
        edit("docs/index.md", "recipes/sse_basic.md", "elsewhere.md"),
    ),
    (
        tie.every_room_has_every_recipe,
        "csv_export.py lacks its notebook that imports recipes.csv_export",
        edit("notebooks/first_stream.ipynb", "csv_export", "csv"),
    ),
    (
        tie.every_room_has_every_recipe,
        "new.py lacks its page docs/recipes/new.md",
        add("recipes/new.py"),
    ),
    # What a room has too much.
    (
        tie.nothing_is_orphaned,
        "no recipes/old.py for the page docs/recipes/old.md",
        add("docs/recipes/old.md"),
    ),
    (
        tie.nothing_is_orphaned,
        "no recipes/old.py for the test tests/recipes/test_old.py",
        add("tests/recipes/test_old.py"),
    ),
    (
        tie.nothing_is_orphaned,
        "no recipes/old.py for the transcript docs/transcripts/old.txt",
        add("docs/transcripts/old.txt"),
    ),
    (
        tie.nothing_is_orphaned,
        "no recipes/old.py for the nav entry recipes/old.md",
        edit("mkdocs.yml", "recipes/csv_export.md", "recipes/old.md"),
    ),
    (
        tie.nothing_is_orphaned,
        "no recipes/old.py for the notebook that imports recipes.old",
        edit("notebooks/first_stream.ipynb", "recipes import", "recipes import old,"),
    ),
    (
        tie.nothing_is_orphaned,
        "no recipes/old.py for the bench benchmarks/bench_old.py",
        add("benchmarks/bench_old.py"),
    ),
    (
        tie.nothing_is_orphaned,
        "no recipes/old.py for the recipes/old.html",
        add("recipes/old.html"),
    ),
    # Pitfalls.
    (
        tie.every_pitfall_is_tested_and_shown,
        "recipes/pitfalls/new.py lacks its test",
        add("recipes/pitfalls/new.py"),
    ),
    (
        tie.every_pitfall_is_tested_and_shown,
        "there is no recipes/pitfalls/old.py for its test",
        add("tests/pitfalls/test_old.py"),
    ),
    (
        tie.every_pitfall_is_tested_and_shown,
        "recipes/pitfalls/sse_basic/dict_as_data.py is not shown in docs/pitfalls.md",
        edit("docs/pitfalls.md", "pitfalls/dict_as_data.py:wrong", "none.py"),
    ),
    # Pages.
    (
        tie.code_is_included,
        "typed in instead of included: 'x = 1'",
        append(PAGE, "\n```python\nx = 1\n```\n"),
    ),
    (
        tie.code_is_included,
        "typed in instead of included: 'a: 1'",
        append(PAGE, '\n=== "Tab"\n\n    ```yaml\n    a: 1\n    ```\n'),
    ),
    (
        tie.code_is_included,
        "no test knows the command 'rm -r docs'",
        append(PAGE, "\n```bash\nrm -r docs\n```\n"),
    ),
    (
        tie.code_is_included,
        "no test knows the command 'curl http://127.0.0.1:8000/no/1'",
        append(PAGE, "\n```bash\ncurl http://127.0.0.1:8000/no/1\n```\n"),
    ),
    (
        tie.what_is_included_exists,
        "there is no file recipes/old.py to include",
        append(PAGE, '\n--8<-- "recipes/old.py"\n'),
    ),
    (
        tie.what_is_included_exists,
        "recipes/plain_text.py has no section old",
        append(PAGE, '\n--8<-- "recipes/plain_text.py:old"\n'),
    ),
    (
        tie.every_section_is_shown,
        "recipes/plain_text.py: the section bytes is shown nowhere",
        edit(PAGE, "plain_text.py:bytes", "plain_text.py"),
    ),
    (
        tie.a_page_can_be_read,
        "at most 200 are allowed",
        append(PAGE, "\n" * 200),
    ),
    (
        tie.a_page_can_be_read,
        "has no live panel of its recipe",
        edit(PAGE, "<live-panel recipe=", "<live-panel x="),
    ),
    (
        tie.a_page_can_be_read,
        "the panel asks for '/async/9', which 'plain_text' never tries",
        edit(PAGE, 'path="/async/1"', 'path="/async/9"'),
    ),
    (
        tie.a_test_names_its_page,
        "does not open with docs/recipes/plain_text.md",
        edit("tests/recipes/test_plain_text.py", '"""docs/recipes/', '"""docs/'),
    ),
    (
        tie.the_readme_table_is_the_generated_one,
        "the table of recipes is out of date",
        edit(PLAIN, "Send text", "Sends text"),
    ),
    # Recipes.
    (
        tie.a_recipe_keeps_to_its_size,
        "recipes/sse_basic.py has 121 lines; at most 120 are allowed",
        append("recipes/sse_basic.py", "#\n"),
    ),
    (
        tie.a_recipe_keeps_to_its_size,
        "has 92 columns, not at most 88",
        append(PLAIN, f"# {'x' * 90}\n"),
    ),
    (
        tie.a_recipe_keeps_to_its_size,
        "has more than 4 sections",
        append(PLAIN, "# --8<-- [start:fifth]\n"),
    ),
    (
        tie.a_recipe_keeps_to_its_size,
        "is cut by a section mark",
        edit(PLAIN, "    yield f", "# --8<-- [end:x]\n    yield f"),
    ),
    (
        tie.a_recipe_stands_alone,
        "imports cookbook, which is ours",
        append(PLAIN, "import cookbook\n"),
    ),
    (
        tie.a_recipe_stands_alone,
        "imports recipes, which is ours",
        append(PLAIN, "from . import sse_basic\n"),
    ),
    (
        tie.a_recipe_stands_alone,
        "imports undeclared anyio",
        append(PLAIN, "import anyio\n"),
    ),
    (
        tie.a_recipe_stands_alone,
        "declares unused uvicorn",
        edit(PLAIN, "import uvicorn\n", ""),
    ),
    (
        tie.a_recipe_stands_alone,
        "lacks its block of inline metadata",
        edit(PLAIN, "# /// script", "# script"),
    ),
    (
        tie.importing_does_nothing,
        "recipes/plain_text.py cannot be imported alone: opens a socket",
        append(PLAIN, "import socket\nsocket.create_server(('', 0))\n"),
    ),
    (
        tie.importing_does_nothing,
        "recipes/plain_text.py cannot be imported alone: starts a thread",
        append(PLAIN, "import threading\nthreading.Thread(target=print).start()\n"),
    ),
    (
        tie.importing_does_nothing,
        "cannot be imported alone: KeyError: 'SHOP_KEY'",
        append(PLAIN, "import os\nos.environ['SHOP_KEY']\n"),
    ),
    (
        tie.a_docstring_says_how_to_run_and_try,
        "the docstring lacks Run it:",
        edit(PLAIN, "Run it:", "Runs by:"),
    ),
    (
        tie.a_docstring_says_how_to_run_and_try,
        "the docstring lacks Try it:",
        edit(PLAIN, "Try it:", "Tries: "),
    ),
    (
        tie.a_docstring_says_how_to_run_and_try,
        "the line Run it: starts another recipe",
        edit(PLAIN, "recipes.plain_text:app", "recipes.other:app"),
    ),
    (
        tie.a_docstring_says_how_to_run_and_try,
        "the path of 'curl -N http://127.0.0.1:8000/threads/1' is no route",
        edit(PLAIN, "8000/sync/1", "8000/threads/1"),
    ),
    (
        tie.a_docstring_says_how_to_run_and_try,
        "is no curl of port 8000 on this machine",
        edit(PLAIN, "127.0.0.1:8000/sync", "0.0.0.0:80/sync"),
    ),
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("check", "complaint", "fault"), FAULTS, ids=[f[1] for f in FAULTS]
)
def test_a_fault_is_named_in_one_line(
    check: tie.Check, complaint: str, fault: Fault, copy: Path
) -> None:
    fault(copy)
    found = list(check(copy))
    assert any(complaint in line for line in found), found
    assert all("\n" not in line for line in found)


def test_every_check_has_been_seen_to_fail() -> None:
    assert {check for check, _, _ in FAULTS} == set(tie.CHECKS)
