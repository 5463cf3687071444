"""The tie: every recipe has its page, test, transcript, nav entry and notebook.

The checks are in tests/kit/tie.py. Each is run on this repository, where it finds
nothing, and on a copy with one fault, where it names that fault in one line.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cookbook.catalog import ROOT
from tests.kit import tie
from tests.kit.mold import Mold

Fault = Callable[[Path], object]

PARTS = [
    *("recipes", "docs", "notebooks", "benchmarks", "tests/recipes", "tests/pitfalls"),
    *("tests/llm", "tests/browser", "tests/servers", "tests/test_myths.py"),
    *("README.md", "LICENSE", "mkdocs.yml", "Makefile"),
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("check", tie.CHECKS, ids=lambda check: check.__name__)
def test_this_repository_holds_together(check: tie.Check, only: str | None) -> None:
    found = list(check(ROOT))
    assert [line for line in found if only is None or only in line] == []


def test_some_recipes_bring_a_page_as_the_first_words_say() -> None:
    assert len(list((ROOT / "recipes").glob("*.html"))) > 1
    for file in ("README.md", "docs/index.md"):
        words = " ".join((ROOT / file).read_text("utf-8").split())
        assert "one Python file that runs (some bring an HTML file)" in words


@pytest.fixture(scope="module")
def mold(tmp_path_factory: pytest.TempPathFactory) -> Mold:
    """Copy all that the checks look at, once."""
    return Mold(ROOT, PARTS, tmp_path_factory.mktemp("book"))


@pytest.fixture
def copy(mold: Mold) -> Iterator[Path]:
    """Give the copy; what a fault spoils in it is whole again for the next one."""
    with mold.fresh() as root:
        yield root


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


def shorten(file: str, heading: str) -> Fault:
    """Make a fault that takes away the words of a section, and leaves its blocks."""

    def fault(root: Path) -> None:
        before, found, rest = (root / file).read_text("utf-8").partition(heading)
        section, mark, after = rest.partition("\n## ")
        assert found
        lines = [
            line for line in section.splitlines() if not re.search(r"[.:] |[.:]$", line)
        ]
        whole = before + found + "\n".join(lines) + mark + after
        (root / file).write_text(whole, "utf-8")

    return fault


PLAIN, PAGE = "recipes/plain_text.py", "docs/recipes/plain_text.md"
DICT = "recipes/pitfalls/sse_basic/dict_as_data.py"

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
        "csv_export.py lacks its client docs/clients/csv_export.py",
        remove("docs/clients/csv_export.py"),
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
        "recipes/pitfalls/plain_text/new.py lacks its test",
        add("recipes/pitfalls/plain_text/new.py"),
    ),
    (
        tie.every_pitfall_is_tested_and_shown,
        "there is no recipes/pitfalls/plain_text/old.py for its test",
        add("tests/pitfalls/plain_text/test_old.py"),
    ),
    (
        tie.every_pitfall_is_tested_and_shown,
        "dict_as_data.py is not shown in docs/pitfalls/events.md",
        edit("docs/pitfalls/events.md", f"{DICT}:", "none.py:"),
    ),
    (
        tie.every_pitfall_is_tested_and_shown,
        "dict_as_data.py is not shown in docs/recipes/sse_basic.md",
        edit("docs/recipes/sse_basic.md", f"{DICT}:", "none.py:"),
    ),
    (
        tie.every_pitfall_is_tested_and_shown,
        "no recipe sse_basic does it right",
        remove("recipes/sse_basic.py"),
    ),
    (
        tie.a_pitfall_can_be_run,
        "dict_as_data.py: the docstring lacks See it:",
        edit(DICT, "See it:", "Sees: "),
    ),
    (
        tie.a_pitfall_can_be_run,
        "the line Run it: starts something else",
        edit(DICT, "uvicorn recipes.pitfalls.sse_basic.dict_as_data", "uvicorn x"),
    ),
    (
        tie.a_pitfall_can_be_run,
        "is no curl of port 8000 on this machine",
        edit(DICT, "http://127.0.0.1:8000/", "http://127.0.0.1:8080/"),
    ),
    (
        tie.a_section_of_a_pitfall_is_whole,
        "'A new symptom' shows no pitfall",
        append("docs/pitfalls/events.md", "\n## A new symptom\n"),
    ),
    *(
        (
            tie.a_section_of_a_pitfall_is_whole,
            complaint,
            edit("docs/pitfalls/events.md", old, new),
        )
        for complaint, old, new in [
            (
                "lacks the command 'curl -N http://127.0.0.1:8000/events'",
                "```bash\ncurl -N http://127.0.0.1:8000/events\n```",
                "",
            ),
            ("lacks the wrong version of sse_basic/dict", "dict_as_data.py:wrong", "x"),
            (
                "lacks the right version, or a link to it",
                "dict_as_data.py:right",
                "dict_as_data.py:wrong",
            ),
            (
                "does not name its test, tests/pitfalls/sse_basic/test_dict_as_data.py",
                "Test: `tests/pitfalls/sse_basic/test_dict_as_data.py`",
                "",
            ),
            (
                "the panel is wrong: neither sse_basic/dict_as_data",
                'right="/json-events"',
                'right="/other"',
            ),
            (
                "the panel shows another pitfall, sse_basic/end_without_data",
                'wrong="sse_basic/dict_as_data" right="/json-events"',
                'wrong="sse_basic/end_without_data"',
            ),
        ]
    ),
    (
        tie.a_section_of_a_pitfall_is_whole,
        "lacks what one sees, or why",
        shorten("docs/pitfalls/events.md", "## EventSource reconnects for ever\n"),
    ),
    (
        tie.a_section_of_a_pitfall_is_whole,
        "recipes/pitfalls/groups.toml: sse_basic/dict_as_data must be in one group",
        edit("recipes/pitfalls/groups.toml", '  "sse_basic/dict_as_data",\n', ""),
    ),
    (
        tie.a_recipe_links_to_its_pitfalls,
        "docs/recipes/plain_text.md does not link to its pitfalls",
        edit(PAGE, '--8<-- "docs/pitfalls/of/plain_text.md"', ""),
    ),
    (
        tie.every_list_is_the_generated_one,
        "docs/pitfalls/of/sse_basic.md is out of date",
        edit("docs/pitfalls/events.md", "## EventSource reconnects", "## It connects"),
    ),
    (
        tie.a_myth_names_its_proof,
        "there are only 19 myths",
        edit(tie.MYTHS, "## await asyncio", "await asyncio"),
    ),
    (
        tie.a_myth_names_its_proof,
        "'await asyncio.sleep(0) gives backpressure' lacks its verdict",
        edit(tie.MYTHS, "**False.** It lets other", "It lets other"),
    ),
    (
        tie.a_myth_names_its_proof,
        "names no test",
        edit(tie.MYTHS, "Test: `tests/test_myths.py::test_a_sleep", "`tests::test"),
    ),
    (
        tie.a_myth_names_its_proof,
        "has no test test_renamed_of_0_lets",
        edit(tie.MYTHS, "::test_a_sleep_of_0_lets", "::test_renamed_of_0_lets"),
    ),
    (
        tie.a_myth_names_its_proof,
        "there is no file tests/test_gone.py",
        edit(
            tie.MYTHS,
            "`tests/test_myths.py::test_a_sl",
            "`tests/test_gone.py::test_a_sl",
        ),
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
        "at most 300 are allowed",
        append(PAGE, "\n" * 300),
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
        tie.a_recipe_can_be_taken_home,
        "cannot be taken home: http_proxy needs redis: no stand-in is known for it",
        edit("recipes/http_proxy.py", 'needs = ["upstream"]', 'needs = ["redis"]'),
    ),
    (
        tie.a_recipe_can_be_taken_home,
        "cannot be taken home: the transcript of plain_text lacks an answer",
        edit("docs/transcripts/plain_text.txt", "--8<-- [start:sync-1]", ""),
    ),
    (
        tie.a_recipe_can_be_taken_home,
        "cannot be taken home: a client imports teapot, which is no known package",
        append("docs/clients/plain_text.py", "import teapot\n"),
    ),
    (
        tie.a_test_names_its_page,
        "does not open with docs/recipes/plain_text.md",
        edit("tests/recipes/test_plain_text.py", '"""docs/recipes/', '"""docs/'),
    ),
    (
        tie.every_list_is_the_generated_one,
        "README.md is out of date; run make docs",
        edit(PLAIN, "Send text", "Sends text"),
    ),
    (
        tie.every_list_is_the_generated_one,
        "mkdocs.yml is out of date",
        edit("mkdocs.yml", "recipes/csv_export.md", "index.md"),
    ),
    (
        tie.every_list_is_the_generated_one,
        "docs/index.md is out of date",
        edit("docs/index.md", "recipes/sse_basic.md", "elsewhere.md"),
    ),
    (
        tie.every_list_is_the_generated_one,
        "docs/pitfalls/index.md is out of date",
        append("docs/pitfalls/events.md", "\n## A new symptom\n"),
    ),
    (
        tie.every_list_is_the_generated_one,
        "docs/course/tokens.md is out of date",
        edit("notebooks/tokens.ipynb", "Time to first token", "The first token"),
    ),
    (
        tie.every_list_is_the_generated_one,
        "docs/index.md: the marks '<!-- recipes -->'",
        edit("docs/index.md", "<!-- recipes -->", ""),
    ),
    (
        tie.every_list_is_the_generated_one,
        "its front matter needs title, theme, place, want, because",
        edit(PAGE, "\nplace: ", "\nrank: "),
    ),
    (
        tie.every_list_is_the_generated_one,
        "the theme is one of bytes, events, tokens, around",
        edit(PAGE, "\ntheme: bytes", "\ntheme: text"),
    ),
    (
        tie.a_page_says_what_its_recipe_says,
        "its heading is not",
        edit(PAGE, "\n# ", "\n# The "),
    ),
    (
        tie.a_page_says_what_its_recipe_says,
        "docs/recipes/plain_text.md does not say that it needs FastAPI 0.999",
        edit(PLAIN, '"fastapi>=0.', '"fastapi>=0.999"]#'),
    ),
    # Recipes.
    (
        tie.a_recipe_keeps_to_its_size,
        "lines of code; at most 90 are allowed",
        append("recipes/sse_basic.py", "x = 1\n" * 90),
    ),
    (
        tie.a_recipe_keeps_to_its_size,
        "lines of code; at most 160 are allowed",
        append("recipes/llm_chat.py", "x = 1\n" * 160),
    ),
    (
        tie.a_recipe_keeps_to_its_size,
        "has 92 columns, not at most 88",
        append(PLAIN, f"# {'x' * 90}\n"),
    ),
    (
        tie.a_recipe_keeps_to_its_size,
        "has more than 5 sections",
        append(PLAIN, "# --8<-- [start:more]\n" * 5),
    ),
    (
        tie.a_recipe_keeps_to_its_size,
        "is cut by a section mark",
        edit(PLAIN, "    yield f", "# --8<-- [end:x]\n    yield f"),
    ),
    *(
        (tie.a_line_does_one_thing, advice, append(PLAIN, f"{line}\n"))
        for line, advice in {
            "due, end = 1, 2": "write one assignment a line",
            "while chunk := input(): pass": "assign on a line of its own",
            "print(start := 1)": "assign on a line of its own",
            "print(1) if PAUSE else print(2)": "write if and else",
            "def f(x): yield 1 if x else 2": "write if and else",
            "x = 1 if PAUSE else 2 if ORDERS else 3": "one choice a branch",
            "[x for x in ORDERS].pop()": "write a loop",
            "for a, b, c in []: pass": "name the item",
            "print(type(app).__name__.lower())": "write the name out",
            "f(x.pop('data'), **x)": "write the keywords out",
        }.items()
    ),
    (
        tie.a_line_does_one_thing,
        "plain_text/time_sleep_in_async_generator.py",
        append(
            "recipes/pitfalls/plain_text/time_sleep_in_async_generator.py",
            "due, end = 1, 2\n",
        ),
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
