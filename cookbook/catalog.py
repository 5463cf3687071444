"""Know which recipes there are: the only place that does.

A recipe is a module in `recipes/`. Its docstring gives all that is told about it: the
first line is its summary, `Run it:` starts it, and each line of `Try it:` is a request.
`python -m cookbook.catalog` writes the table of recipes into the README.
"""

import ast
import difflib
import importlib
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from fastapi import FastAPI

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
TABLE = re.compile(r"(?<=<!-- recipes -->\n).*?(?=<!-- end of recipes -->)", re.DOTALL)


class Request(NamedTuple):
    """What a `Try it:` line asks for; with a body, which is JSON, it is a POST."""

    path: str  # with the query
    body: str | None

    @property
    def method(self) -> str:
        """The method that curl takes."""
        return "GET" if self.body is None else "POST"


@dataclass(frozen=True)
class Recipe:
    """One recipe, as its docstring describes it."""

    slug: str
    summary: str
    run: str  # the command that starts it on port 8000
    tries: tuple[str, ...]  # one curl command a request

    @property
    def source(self) -> Path:
        """The recipe's file."""
        return ROOT / "recipes" / f"{self.slug}.py"

    @property
    def requests(self) -> list[Request]:
        """What each `Try it:` line asks for."""
        return [request(line) for line in self.tries]

    def load(self) -> FastAPI:
        """Import the recipe and give its application."""
        app = importlib.import_module(f"recipes.{self.slug}").app
        if not isinstance(app, FastAPI):
            raise TypeError(f"recipes/{self.slug}.py: `app` is no FastAPI application")
        return app


def request(curl: str) -> Request:
    """Read a curl command: its address, and what follows `--json`."""
    words = shlex.split(curl)
    url = urlsplit(next((word for word in words if word.startswith("http")), ""))
    body = words[words.index("--json") + 1] if "--json" in words else None
    return Request(f"{url.path}?{url.query}".rstrip("?"), body)


def read(source: Path) -> Recipe:
    """Read a recipe's docstring without importing it.

    Raises ValueError, naming what is missing, if it lacks a summary or a line.
    """
    text = ast.get_docstring(ast.parse(source.read_text("utf-8"))) or ""
    summary, _, rest = text.partition("\n")
    run = re.search(r"^Run it: +(.+)$", rest, re.MULTILINE)
    tries = re.search(r"^Try it: +(.+(?:\n {10}.+)*)", rest, re.MULTILINE)
    if not (summary and run and tries):
        missing = "a summary" if not summary else "Try it:" if run else "Run it:"
        raise ValueError(f"{source.name}: the docstring lacks {missing}")
    # A backslash at the end of a docstring's line has joined it to the next.
    lines = tuple(re.sub(" {2,}", " ", line.strip()) for line in tries[1].splitlines())
    return Recipe(source.stem, summary, run[1], lines)


def recipes() -> list[Recipe]:
    """List every recipe, by slug."""
    return [read(path) for path in sorted((ROOT / "recipes").glob("[!_]*.py"))]


def find(slug: str) -> Recipe:
    """Give one recipe. Raises LookupError with the nearest slug if there is none."""
    known = {recipe.slug: recipe for recipe in recipes()}
    if slug in known:
        return known[slug]
    near = difflib.get_close_matches(slug, known, n=1, cutoff=0.4)
    hint = f"Did you mean {near[0]}?" if near else "cookbook list shows them all."
    raise LookupError(f"There is no recipe {slug!r}. {hint}")


def table(known: list[Recipe]) -> str:
    """Write the README's table of recipes, in Markdown."""
    rows = [
        f"| [`{r.slug}`](recipes/{r.slug}.py) | {r.summary} | `{r.tries[0]}` |"
        for r in known
    ]
    return "\n".join(["| recipe | what it does | try it |", "|---|---|---|", *rows, ""])


def main() -> None:
    """Write the table into the README."""
    readme = TABLE.sub(lambda _: table(recipes()), README.read_text("utf-8"))
    README.write_text(readme, "utf-8")


if __name__ == "__main__":
    main()
