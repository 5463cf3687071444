"""The pages of the course say what the notebooks say, as a page of the site."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from cookbook import course
from cookbook.catalog import ROOT

FIRST = """# Tea

How hot?

**Afterwards you can** pour
tea. **It takes about 40 minutes**"""


def cell(
    kind: str, source: str, *outputs: dict[str, Any], tag: str = ""
) -> course.Cell:
    tags = {"tags": [tag]} if tag else {}
    made = {"cell_type": kind, "metadata": tags, "source": source}
    return made | ({"outputs": list(outputs)} if kind == "code" else {})


def shown(data: dict[str, str]) -> dict[str, Any]:
    return {"output_type": "execute_result", "data": data}


def printed(text: str, name: str = "stdout") -> dict[str, Any]:
    return {"output_type": "stream", "name": name, "text": text}


@pytest.fixture
def tea(tmp_path: Path) -> Path:
    """Give a book whose only chapter is about tea."""
    cells = [
        cell("markdown", FIRST),
        cell("code", "from recipes import plain_text\nprint(1)", printed("1\n")),
        cell("code", "1", printed("hot\n", "stderr"), shown({"text/plain": "```"})),
        cell("code", "pot", shown({"text/html": "<svg role='img'></svg>"})),
        cell("markdown", "## Exercises"),
        cell("code", "raise\n\n# Checks", tag="exercise"),
        cell("code", "pass\n\n# Checks", tag="solution"),
    ]
    (tmp_path / "notebooks").mkdir()
    written = json.dumps({"cells": cells})
    (tmp_path / "notebooks/tea.ipynb").write_text(written, "utf-8")
    for part in ("recipes", "docs"):
        (tmp_path / part).symlink_to(ROOT / part)
    return tmp_path


def test_a_page_has_the_cells_and_what_they_printed(tea: Path) -> None:
    page = course.page(tea, "tea")
    assert page.count("# Tea\n") == 1
    assert "```python\nfrom recipes import plain_text\nprint(1)\n```" in page
    assert "```{ .text .output }\n1\n```" in page
    assert "```{ .text .output .stderr }\nhot\n```" in page
    assert "````{ .text .output }\n```\n````" in page, "a fence is longer than its text"
    assert re.search(r'<div class="course-picture" tabindex="0".*<svg role', page)


def test_an_exercise_is_open_and_its_solution_is_folded(tea: Path) -> None:
    page = course.page(tea, "tea")
    task = '!!! question "Your turn"\n\n    ```python\n    raise\n'
    answer = '??? success "Solution"\n\n    ```python\n    pass\n'
    assert 0 < page.index(task) < page.index(answer)


def test_a_page_leads_to_jupyterlab_and_to_its_recipes(tea: Path) -> None:
    page = course.page(tea, "tea")
    assert f"({course.LAB}/tea.ipynb), in the browser that `make notebooks` has" in page
    assert "[Text as it is made](../recipes/plain_text.md)." in page


@pytest.mark.parametrize(
    "part",
    ["# Tea", "**Afterwards you can** pour\ntea.", "**It takes about 40 minutes**"],
)
def test_a_first_cell_that_lacks_something_is_named(tea: Path, part: str) -> None:
    path = tea / "notebooks/tea.ipynb"
    whole = json.loads(path.read_text("utf-8"))
    whole["cells"][0]["source"] = FIRST.replace(part, "")
    path.write_text(json.dumps(whole), "utf-8")
    with pytest.raises(
        ValueError, match=r"^notebooks/tea\.ipynb: its first cell needs"
    ):
        course.read(tea, "tea")


def test_the_overview_tells_what_each_chapter_is_for() -> None:
    table = course.overview(ROOT).strip().splitlines()[2:]
    assert len(table) == len(course.CHAPTERS) == 9
    for name, row in zip(course.CHAPTERS, table, strict=True):
        assert re.fullmatch(rf"\| \[.+\]\(course/{name}\.md\) \| .+ \| \d+ \|", row)


def test_a_symptom_is_found_elsewhere_first(tea: Path) -> None:
    assert "\nsearch:\n  boost: 0.5\n---\n" in course.page(tea, "tea")
