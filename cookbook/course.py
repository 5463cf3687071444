"""Write the chapters of the course as pages, from the notebooks and their outputs.

`python -m cookbook.generated` writes what `files` gives, as all that is generated.
Nothing is run for it: a page shows the outputs that the notebook is kept with.
"""

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent
from typing import Any

from cookbook import catalog

# The order in which one reads them.
CHAPTERS = (
    "first_stream",
    "files_and_ranges",
    "rows_from_a_database",
    "server_sent_events",
    "reconnect_and_resume",
    "fan_out",
    "tokens",
    "errors_and_cancellation",
    "behind_a_proxy",
)
LAB = "http://127.0.0.1:8888/lab/tree"  # where `make notebooks` serves them
TITLE = re.compile(r"# (.+)\n")
AFTER = re.compile(r"\*\*Afterwards you can\*\* (.+?)\.\s", re.DOTALL)
TIME = re.compile(r"\*\*It takes about (\d+) minutes\*\*")
IS_SVG = re.compile(r"\s*<svg\b")
STYLED = re.compile(r' style="text-align:left"')

Cell = dict[str, Any]


@dataclass(frozen=True)
class Chapter:
    """A notebook as a reader chooses it, and its cells."""

    name: str
    title: str
    after: str  # what one can do afterwards
    minutes: int
    cells: list[Cell]


def read(root: Path, name: str) -> Chapter:
    """Read a notebook.

    Raises ValueError if its first cell does not say what it is for and how long it
    takes, FileNotFoundError if there is none.
    """
    path = root / "notebooks" / f"{name}.ipynb"
    cells = json.loads(path.read_text("utf-8"))["cells"]
    first = text(cells[0]["source"]) + "\n"
    found = [pattern.search(first) for pattern in (TITLE, AFTER, TIME)]
    title, after, minutes = (match and " ".join(match[1].split()) for match in found)
    if not (title and after and minutes):
        raise ValueError(
            f"notebooks/{name}.ipynb: its first cell needs a title, "
            "**Afterwards you can** … and **It takes about N minutes**"
        )
    return Chapter(name, title, after, int(minutes), cells)


def text(value: str | list[str]) -> str:
    """Join what a notebook keeps as a text or as a list of lines."""
    return value if isinstance(value, str) else "".join(value)


def fence(language: str, body: str) -> str:
    """Put a text into a block of code, whatever backticks it has."""
    marks = max(map(len, re.findall("`{3,}", body)), default=2) + 1
    return f"{'`' * marks}{language}\n{body.rstrip()}\n{'`' * marks}"


def outputs(cell: Cell) -> Iterator[str]:
    """Give each output of a cell in Markdown."""
    for output in cell.get("outputs", []):
        if output["output_type"] == "stream":
            kind = "output" if output["name"] == "stdout" else "output stderr"
            yield fence(f"{{ .text .{kind.replace(' ', ' .')} }}", text(output["text"]))
        elif "text/html" in output.get("data", {}):
            html = text(output["data"]["text/html"])
            kind = "picture" if IS_SVG.match(html) else "stream"
            # Whoever has no mouse can scroll it, too.
            box = f'class="course-{kind}" tabindex="0" role="group"'
            html = STYLED.sub("", html).replace("<table>", '<table class="arrivals">')
            yield f'<div {box} aria-label="Output">{html}</div>'
        elif "text/plain" in output.get("data", {}):
            yield fence("{ .text .output }", text(output["data"]["text/plain"]))


def block(kind: str, title: str, body: str) -> str:
    """Write a box with a title: `!!!` is open, `???` is folded."""
    return f'{kind} "{title}"\n\n{indent(body, "    ")}'


def parts(chapter: Chapter) -> Iterator[str]:
    """Give a chapter's cells in Markdown, after the first."""
    for cell in chapter.cells[1:]:
        source, tags = text(cell["source"]), cell["metadata"].get("tags", [])
        if cell["cell_type"] == "markdown":
            yield source.strip()
        elif "exercise" in tags:
            yield block("!!! question", "Your turn", fence("python", source))
        elif "solution" in tags:
            yield block("??? success", "Solution", fence("python", source))
        else:
            yield fence("python", source)
            yield from outputs(cell)


def recipes_of(cells: list[Cell]) -> set[str]:
    """Name the recipes that a notebook's code imports."""
    code = "\n".join(
        text(cell["source"]) for cell in cells if cell["cell_type"] == "code"
    )
    found: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    ours = {name.split(".")[1] for name in found if name.startswith("recipes.")}
    return ours - {"pitfalls"}


def page(root: Path, name: str) -> str:
    """Write the page of a chapter."""
    chapter = read(root, name)
    opening = text(chapter.cells[0]["source"]).strip()
    used = recipes_of(chapter.cells)
    links = [
        f"[{about.title}](../recipes/{recipe.slug}.md)"
        for _, pairs in catalog.by_theme(root)
        for recipe, about in pairs
        if recipe.slug in used
    ]
    how = (
        "Type `make notebooks` in the cookbook's folder. Then "
        f"[open this chapter in JupyterLab]({LAB}/{name}.ipynb), in the browser that "
        "`make notebooks` has opened; otherwise use the address that the terminal "
        f"shows. It is your copy of `notebooks/{name}.ipynb`, and every cell runs. "
        "[More about the course]"
        "(../notebooks.md).\n\n"
        f"Its recipes: {', '.join(links)}."
    )
    front = f"---\ntitle: {json.dumps(chapter.title, ensure_ascii=False)}\n"
    mark = f"<!-- Written from notebooks/{name}.ipynb by `make docs`: change that. -->"
    # A page of the course shows many words once; a symptom is to be found elsewhere.
    head = f"{front}search:\n  boost: 0.5\n---\n\n{mark}\n"
    body = [opening, block("!!! tip", "Work through it", how), *parts(chapter)]
    return "\n\n".join([head.rstrip(), *body, ""])


def overview(root: Path) -> str:
    """Write the table of the chapters."""
    lines = ["", "| chapter | afterwards you can | minutes |", "|---|---|--:|"]
    for name in CHAPTERS:
        it = read(root, name)
        link = f"[{it.title}](course/{name}.md)"
        lines.append(f"| {link} | {it.after} | {it.minutes} |")
    return "\n".join([*lines, "", ""])


def nav(root: Path) -> str:
    """Write the menu's part for the course, in YAML."""
    lines = ["  - Course:", "      - What is here: notebooks.md"]
    lines += [
        f"      - {read(root, name).title}: course/{name}.md" for name in CHAPTERS
    ]
    return "\n".join([*lines, ""])


def files(root: Path) -> dict[Path, str]:
    """Give the page of each chapter, with the text that it should have."""
    return {root / "docs/course" / f"{name}.md": page(root, name) for name in CHAPTERS}
