"""Know which recipes and pitfalls there are: the only place that does.

A recipe is a module in `recipes/`. Its docstring says how it is started and tried: the
first line is its summary, `Run it:` starts it, and each line of `Try it:` is a request.
Its inline metadata says what it is made of and, in `[tool.cookbook]`, what it needs.
The front matter of its page holds its title, its theme and its place among the others.

A pitfall is a module in `recipes/pitfalls/<slug>/`, where the slug is the recipe that
does the same thing right. Its docstring has one line more: `See it:` is a text in the
answer to its last request, which shows the mistake.
"""

import ast
import difflib
import importlib
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from cookbook.curl import Request, request

HERE = Path(__file__).resolve().parent
# A wheel carries the files that are read here beside the code: see cookbook/wheel.py.
CARRIED = (HERE / "book").is_dir()
ROOT = HERE / "book" if CARRIED else HERE.parent

THEMES = {
    "bytes": "Bytes and rows",
    "events": "Server-sent events",
    "tokens": "Tokens of a language model",
    "around": "Around the stream",
}
# What a recipe may need beside Python: the words are for people.
NEEDS = {
    "model": "a language model",
    "redis": "Redis",
    "postgres": "PostgreSQL",
    "upstream": "another service, which is a recipe of its own",
}

SCRIPT = re.compile(r"^# /// script\n((?:#.*\n)+?)# ///$", re.MULTILINE)
FIELD = re.compile(r"^(\w+ it): +(.+(?:\n {10}.+)*)", re.MULTILINE)
# Ours, so that what is wrong can be said in one sentence.
PROBLEMS = (ValueError, SyntaxError, OSError)


@dataclass(frozen=True)
class Page:
    """The front matter of a recipe's page: all that menus and tables say of it."""

    title: str
    theme: str  # a key of `THEMES`
    place: int  # in the theme; the lowest comes first
    want: str  # "you want to …"
    because: str  # why to take this recipe for it


@dataclass(frozen=True)
class Recipe:
    """One recipe, as its docstring and its inline metadata describe it."""

    slug: str
    summary: str
    run: str  # the command that starts it on port 8000
    tries: tuple[str, ...]  # one curl command a request
    needs: frozenset[str] = frozenset()  # keys of `NEEDS`
    application: bool = False  # a whole application, which may be longer
    packages: frozenset[str] = frozenset()  # names of those that it declares
    problem: str | None = None  # why it cannot be read, in one line
    root: Path = ROOT

    @property
    def source(self) -> Path:
        """The recipe's file."""
        return self.root / "recipes" / f"{self.slug}.py"

    @property
    def has_page(self) -> bool:
        """Whether the recipe serves a page of its own, at `/`."""
        return self.source.with_suffix(".html").exists()

    @cached_property
    def requests(self) -> list[Request]:
        """What each `Try it:` line asks for."""
        return [request(line, self.root) for line in self.tries]

    def load(self) -> FastAPI:
        """Import the recipe and give its application.

        Raises TypeError if its `app` is none, and whatever the import raises.
        """
        app = importlib.import_module(f"recipes.{self.slug}").app
        if not isinstance(app, FastAPI):
            raise TypeError(f"recipes/{self.slug}.py: `app` is no FastAPI application")
        return app


@dataclass(frozen=True)
class Pitfall:
    """One wrong version, as its docstring describes it."""

    slug: str  # the recipe that does it right
    mistake: str
    summary: str
    run: str
    tries: tuple[str, ...]
    see: str  # what the last request's answer holds, and should not
    needs: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """Its name among all pitfalls."""
        return f"{self.slug}/{self.mistake}"

    @cached_property
    def requests(self) -> list[tuple[str, Request]]:
        """The lines of `Try it:` that are one request, each with what it asks for."""
        found = []
        for line in self.tries:
            # It asks several times at once, or for a file that is not there.
            with suppress(ValueError, OSError):
                found.append((line, request(line, ROOT)))
        return found


def metadata(source: Path) -> dict[str, Any] | None:
    """Read a file's inline metadata (PEP 723); None if it has none."""
    block = SCRIPT.search(source.read_text("utf-8"))
    if not block:
        return None
    return tomllib.loads(re.sub(r"^# ?", "", block[1], flags=re.MULTILINE))


def own_metadata(source: Path) -> dict[str, Any]:
    """Read what a file's inline metadata tells the cookbook.

    Raises ValueError if it names a need that is not in `NEEDS`.
    """
    found: dict[str, Any] = (metadata(source) or {}).get("tool", {}).get("cookbook", {})
    if unknown := sorted(set(found.get("needs", [])) - NEEDS.keys()):
        known = ", ".join(NEEDS)
        raise ValueError(f"{source.name}: it needs {unknown[0]!r}; known are {known}")
    return found


def described(source: Path, *labels: str) -> tuple[str, Mapping[str, tuple[str, ...]]]:
    """Read a docstring without running its module: the summary, and lines by label.

    Raises ValueError, naming what is missing, if it lacks a summary or a label.
    """
    text = ast.get_docstring(ast.parse(source.read_text("utf-8"))) or ""
    summary, _, rest = text.partition("\n")
    if not summary:
        raise ValueError(f"{source.name}: the docstring lacks a summary")
    fields = {}
    for label, value in FIELD.findall(rest):
        # A backslash at the end of a docstring's line has joined it to the next.
        lines = [re.sub(" {2,}", " ", line.strip()) for line in value.splitlines()]
        fields[label] = tuple(lines)
    for label in labels:
        if label not in fields:
            raise ValueError(f"{source.name}: the docstring lacks {label}:")
    return summary, fields


def package(requirement: str) -> str:
    """Give the name of a requirement's package, as PEP 503 compares names."""
    name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


def read(source: Path) -> Recipe:
    """Read a recipe's docstring and metadata without importing it.

    Raises ValueError, naming what is missing, or SyntaxError if it is no Python.
    """
    summary, fields = described(source, "Run it", "Try it")
    own = own_metadata(source)
    declared = (metadata(source) or {}).get("dependencies", [])
    return Recipe(
        slug=source.stem,
        summary=summary,
        run=fields["Run it"][0],
        tries=fields["Try it"],
        needs=frozenset(own.get("needs", [])),
        application=bool(own.get("application")),
        packages=frozenset(map(package, declared)),
        root=source.parents[1],
    )


def read_pitfall(source: Path) -> Pitfall:
    """Read a pitfall's docstring without importing it; raises as `read` does."""
    summary, fields = described(source, "Run it", "Try it", "See it")
    return Pitfall(
        slug=source.parent.name,
        mistake=source.stem,
        summary=summary,
        run=fields["Run it"][0],
        tries=fields["Try it"],
        see=fields["See it"][0],
        needs=frozenset(own_metadata(source).get("needs", [])),
    )


def sources(root: Path = ROOT) -> list[Path]:
    """List the files of all recipes, by slug."""
    return sorted((root / "recipes").glob("[!_]*.py"))


def pitfall_sources(root: Path = ROOT) -> list[Path]:
    """List the files of all pitfalls, by recipe."""
    return sorted((root / "recipes" / "pitfalls").glob("*/[!_]*.py"))


def recipes(root: Path | None = None) -> list[Recipe]:
    """List every recipe, by slug; one that cannot be read has a `problem`."""
    found = []
    for source in sources(root or ROOT):
        try:
            recipe = read(source)
            _ = recipe.requests  # A line may be no curl command, or name a lost file.
            found.append(recipe)
        except PROBLEMS as error:
            said = f"{type(error).__name__}: {error}"
            found.append(Recipe(source.stem, "", "", (), problem=said))
    return found


def pitfalls(root: Path | None = None) -> list[Pitfall]:
    """List every pitfall, by recipe."""
    return [read_pitfall(source) for source in pitfall_sources(root or ROOT)]


def find(slug: str) -> Recipe:
    """Give one recipe. Raises LookupError with the nearest slug if there is none."""
    known = {recipe.slug: recipe for recipe in recipes()}
    if slug in known:
        return known[slug]
    near = difflib.get_close_matches(slug, known, n=1, cutoff=0.4)
    hint = f"Did you mean {near[0]}?" if near else "cookbook list shows them all."
    raise LookupError(f"There is no recipe {slug!r}. {hint}")


def page(slug: str, root: Path = ROOT) -> Page:
    """Read the front matter of a recipe's page.

    Raises ValueError if a key is missing, unknown or empty, or the theme is unknown.
    """
    from mkdocs.utils.meta import get_data  # the reader that builds the site

    path = root / "docs" / "recipes" / f"{slug}.md"
    _, found = get_data(path.read_text("utf-8"))
    found.pop("search", None)  # For the theme: how high a search ranks the page.
    wanted = Page.__dataclass_fields__.keys()
    if found.keys() != wanted or not all(found.values()):
        keys = ", ".join(wanted)
        raise ValueError(f"docs/recipes/{slug}.md: its front matter needs {keys}")
    if found["theme"] not in THEMES:
        themes = ", ".join(THEMES)
        raise ValueError(f"docs/recipes/{slug}.md: the theme is one of {themes}")
    return Page(**found)


def by_theme(root: Path = ROOT) -> Iterator[tuple[str, list[tuple[Recipe, Page]]]]:
    """Give each theme that has recipes, with its recipes in their order."""
    known = [(read(source), page(source.stem, root)) for source in sources(root)]
    for theme in THEMES:
        own = [(recipe, page) for recipe, page in known if page.theme == theme]
        if own:
            yield theme, sorted(own, key=lambda pair: pair[1].place)
