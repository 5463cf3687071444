"""Collect every attack that the tests try, in one table for the page on security.

python -m tests.kit.attacks     writes docs/production/attacks.txt

A test is an attack if its name begins with `test_attack_`, or its docstring with
`Attack: `. The first line of the docstring is its row: what is tried, and what holds.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cookbook import catalog
from cookbook.catalog import ROOT, THEMES
from tests.kit import docs

TABLE = ROOT / "docs/production/attacks.txt"
NAME, MARK = "test_attack_", "Attack: "
# The site's search shall lead to a symptom or a recipe, and not to its row in here.
UNSEARCHED = "{ data-search-exclude }"
# What is no recipe, by the name of its test, with a sentence; the last is for the rest.
OTHERS = {
    "production": (
        "The files of nginx and Caddy",
        "Against the two whole files of [nginx and Caddy in front](proxies.md), and the"
        " application behind them.",
    ),
    "security": (
        "uvicorn, and the excerpt for nginx",
        "Against uvicorn by itself, and behind nginx with `guard.conf`, the excerpt"
        " above.",
    ),
    "": ("What else is around the recipes", "Against what shows or checks streams."),
}


@dataclass(frozen=True)
class Attack:
    """A test that attacks something."""

    file: Path  # below the root of the project
    name: str
    told: str  # one sentence, in Markdown

    @property
    def slug(self) -> str:
        """Which recipe it attacks; if there is none of that name, the test's own."""
        if self.file.parts[1] == "pitfalls":
            return self.file.parts[2]
        return self.file.stem.removeprefix("test_")


def attacks(root: Path = ROOT) -> Iterator[Attack]:
    """Find the attacks, in the order of the files and of their lines."""
    for path in sorted((root / "tests").rglob("test_*.py")):
        text = path.read_text("utf-8")
        if NAME not in text and MARK not in text:
            continue
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first, _, _ = (ast.get_docstring(node) or "").partition("\n")
                if node.name.startswith(NAME) or first.startswith(MARK):
                    told = first.removeprefix(MARK) or as_sentence(node.name)
                    yield Attack(path.relative_to(root), node.name, told)


def as_sentence(name: str) -> str:
    """Read a test's name as a sentence, for one that says nothing else."""
    return name.removeprefix(NAME).replace("_", " ").capitalize() + "."


def table(found: list[Attack]) -> str:
    """Write a row for each attack; the folder of its test tells how it is run."""
    rows = []
    for attack in found:
        place = Path(attack.file.parts[1]).stem
        # A name of sixty letters may break after each word; copied, it is whole.
        name = attack.name.replace("_", "&#95;<wbr>")
        told = attack.told.replace("|", "\\|")
        rows.append([told, f"{place}: <code>{name}</code>"])
    return docs.table(["what is tried, and what holds", "test"], rows)


def tables(root: Path = ROOT) -> str:
    """Write a table for each recipe, in the order of the menu, and then the rest."""
    found = list(attacks(root))
    text = ""
    known: set[str] = set()
    for theme, pairs in catalog.by_theme(root):
        parts = ""
        for recipe, page in pairs:
            known.add(recipe.slug)
            own = [attack for attack in found if attack.slug == recipe.slug]
            own.sort(key=lambda attack: attack.told.startswith("Wrong"))
            if own:
                parts += f"\n**[{page.title}](../recipes/{recipe.slug}.md)**\n\n"
                parts += table(own)
        text += f"\n### {THEMES[theme]} {UNSEARCHED}\n{parts}" if parts else ""
    others = [attack for attack in found if attack.slug not in known]
    for slug, (heading, told) in OTHERS.items():
        own = [a for a in others if (a.slug if a.slug in OTHERS else "") == slug]
        if own:
            text += f"\n### {heading} {UNSEARCHED}\n\n{told}\n\n{table(own)}"
    return text.lstrip("\n")


if __name__ == "__main__":
    TABLE.write_text(tables(), "utf-8")
