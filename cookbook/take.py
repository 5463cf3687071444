"""Take a recipe home: into a folder of the reader's own, with a test that passes.

`take` gathers the files, `write` writes them, all or none. What a reader gets speaks of
no file of this repository: section marks are gone, `recipes.<slug>` is `<slug>`, and
the clients lie in `clients/`.
"""

import ast
import contextlib
import inspect
import re
import shlex
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import requires
from itertools import chain
from pathlib import Path, PurePosixPath

from fastapi import APIRouter

from cookbook import starter, upstream
from cookbook.catalog import ROOT, Recipe, find, metadata, package

PROJECT = "pyproject.toml"
PART_OF_FASTAPI = {"pydantic", "starlette"}
TEST = ["httpx2", "pytest"]  # what a starter test needs beside the recipe's packages

MARK = re.compile(
    r"^[^\S\n]*\S{0,4} ?--8<-- \[(?:start|end):[\w-]+\].*\n", re.MULTILINE
)
INCLUDED = re.compile(r'--8<-- "docs/clients/([^":]+)')
IMPORTED = re.compile(r"^(?:from|import) (\w+)", re.MULTILINE)
OWN = re.compile(r"(?:#\n)?# \[tool\.cookbook\]\n(?:# [^\[/].*\n)*")
RUN = re.compile(r"^Run it: .*$", re.MULTILINE)
SCRIPT = re.compile(r"\A# /// script\n(?:#.*\n)*?# ///\n")
IMPORT = re.compile(r"^from fastapi import (?:\([^)]*\)|.*)$", re.MULTILINE)

VERBS = {"get", "post", "put", "patch", "delete", "head", "options", "trace"}
# What an application says of itself as a whole, and a router has no need of.
SAID = {"title", "summary", "description", "version"}
REASONS = {
    "exception_handler": "it handles exceptions for the whole application",
    "add_exception_handler": "it handles exceptions for the whole application",
    "add_middleware": "it adds a middleware",
    "middleware": "it adds a middleware",
    "mount": "it mounts another application",
}


@dataclass(frozen=True)
class Taken:
    """What a reader gets: files by their path in the folder, and what they need."""

    slug: str
    files: Mapping[str, bytes]
    packages: list[str]  # requirements of the recipe
    tools: list[str]  # requirements of the test and of the clients


def own(text: str, slug: str) -> str:
    """Make the text of a file one that knows nothing of this repository."""
    text = MARK.sub("", text)
    text = re.sub(rf"\brecipes[./]{slug}\b", slug, text)
    text = text.replace(", in the cookbook's environment", "")
    return text.replace(starter.CLIENTS, "clients/")


def at_home(recipe: Recipe) -> str:
    """Give the recipe's source as a reader gets it."""
    text = own(recipe.source.read_text("utf-8"), recipe.slug)
    for line in recipe.tries:
        file = starter.file_of(line)
        if file and not file.startswith(starter.CLIENTS):
            text = text.replace(f" {file} ", f" {starter.home_of(file, recipe.slug)} ")
    # Marks leave their blank lines, of which two are enough.
    return OWN.sub("", re.sub(r"\n{4,}", "\n\n\n", text), count=1)


# An application as a router


def as_router(text: str, slug: str) -> str:
    """Turn a recipe's `app` into a `router` that another application includes.

    The places are those of the syntax tree, so that no text or comment is touched.
    Raises ValueError, with the reason, if the application does what no router can.
    """
    tree = ast.parse(text)
    made, words, edits = application(tree)
    kept = [word for word in words if word.arg not in SAID]
    known = inspect.signature(APIRouter).parameters
    if alien := [word.arg for word in kept if word.arg not in known]:
        raise ValueError(f"a router has no {alien[0]}=")
    given = ", ".join(ast.get_source_segment(text, word) or "" for word in kept)
    edits.append((made, f"router = APIRouter({given})"))
    ends = [node for node in tree.body if is_main(node)]
    edits += [(node, "") for node in ends]
    text = edited(text, edits)
    text = RUN.sub(f"Use it:   app.include_router({slug}.router)", text, count=1)
    text = SCRIPT.sub("", text)
    return imported_anew(text).rstrip() + "\n"


Edit = tuple[ast.AST, str]  # what is replaced, and by what


def application(
    tree: ast.Module,
) -> tuple[ast.Assign, list[ast.keyword], list[Edit]]:
    """Find the line that makes the application, its keywords, and all that uses it.

    The third is an edit for each decorator of a path operation. Raises ValueError if
    there is another use.
    """
    lines = [node for node in tree.body if isinstance(node, ast.Assign)]
    found = [node for node in lines if ast.unparse(node.targets[0]) == "app"]
    if not found:
        raise ValueError("it makes no `app` at the top")
    made, value = found[0], found[0].value
    if not isinstance(value, ast.Call) or ast.unparse(value.func) != "FastAPI":
        raise ValueError("its application is a class of its own")
    inner = {id(n) for node in tree.body if is_main(node) for n in ast.walk(node)}
    allowed = {id(made.targets[0]), *inner}
    edits: list[Edit] = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for decorator in node.decorator_list:
            call = decorator.func if isinstance(decorator, ast.Call) else decorator
            if isinstance(call, ast.Attribute) and ast.unparse(call.value) == "app":
                if call.attr not in VERBS:
                    raise ValueError(reason(call.attr))
                allowed.add(id(call.value))
                edits.append((call.value, "router"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and id(node.value) not in allowed:
            if ast.unparse(node.value) == "app":
                raise ValueError(reason(node.attr))
        elif (
            isinstance(node, ast.Name) and node.id == "app" and id(node) not in allowed
        ):
            raise ValueError(f"line {node.lineno} uses the application itself")
    return made, value.keywords, edits


def reason(attribute: str) -> str:
    """Say why what an application does is nothing for a router."""
    return REASONS.get(attribute, f"it uses `app.{attribute}`")


def is_main(node: ast.stmt) -> bool:
    """Tell whether this is `if __name__ == "__main__":`."""
    return (
        isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"
    )


def edited(text: str, edits: Iterable[Edit]) -> str:
    """Replace what stands at the places of some nodes."""
    content = text.encode()
    starts = [0]
    for line in content.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    places = [(place(starts, node), new) for node, new in edits]
    for (first, last), new in sorted(places, reverse=True):
        content = content[:first] + new.encode() + content[last:]
    return content.decode()


def place(starts: list[int], node: ast.AST) -> tuple[int, int]:
    """Give the first byte of a node, and the one after its last."""
    at: dict[str, int] = vars(node)
    first = starts[at["lineno"] - 1] + at["col_offset"]
    return first, starts[at["end_lineno"] - 1] + at["end_col_offset"]


def imported_anew(text: str) -> str:
    """Import what a router needs, and no longer what only the application did."""
    used = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
    if "uvicorn" not in used:
        text = text.replace("import uvicorn\n", "", 1)
    found = IMPORT.search(text)
    if not found:
        raise ValueError("it does not import from fastapi")
    names = set(re.findall(r"\w+", found[0].partition("import ")[2]))
    names = {name for name in names if name in used} | {"APIRouter"}
    listed = sorted(names, key=lambda name: (name[0].islower(), name.lower()))
    line = f"from fastapi import {', '.join(listed)}"
    if len(line) > starter.COLUMNS:
        inside = "".join(f"    {name},\n" for name in listed)
        line = f"from fastapi import (\n{inside})"
    return text[: found.start()] + line + text[found.end() :]


# What goes into the folder


def clients(recipe: Recipe, book: Path) -> list[Path]:
    """List the files below the clients that belong to a recipe.

    They are those of its name, those in a folder of its name, those that its page
    includes, those it sends, and what one of them imports from another.
    """
    folder = book / "docs/clients"
    page = (book / "docs/recipes" / f"{recipe.slug}.md").read_text("utf-8")
    found = set(folder.glob(f"{recipe.slug}.*"))
    found |= {path for path in (folder / recipe.slug).rglob("*") if path.is_file()}
    found |= {folder / name for name in INCLUDED.findall(page)}
    found |= {folder / path.name for path in starter.names(recipe)}
    for path in [path for path in found if path.suffix == ".py"]:
        imported = IMPORTED.findall(path.read_text("utf-8"))
        named = {folder / f"{name}.py" for name in imported}
        found |= {path for path in named if path.exists()}
    return sorted(found)


def beside(recipe: Recipe) -> dict[str, bytes]:
    """Give the recipe's page, and the scripts that the page loads from `vendor`."""
    page = recipe.source.with_suffix(".html")
    if not page.exists():
        return {}
    text = own(page.read_text("utf-8"), recipe.slug)
    files = {page.name: text.encode()}
    for path in sorted((page.parent / "vendor").iterdir()):
        name = f"vendor/{path.name}"
        if name in text:
            files[name] = path.read_bytes()
    return files


@cache
def requirements() -> dict[str, str]:
    """Give what this project asks for of each package: the name, and both together."""
    found = {}
    for line in requires("streaming-cookbook") or []:
        wanted = line.partition(";")[0].strip()
        found[package(wanted)] = wanted
    return found


def packages_of(text: str, known: Mapping[str, str], local: set[str]) -> Iterator[str]:
    """Give the requirement of each package that a client imports.

    `local` are modules of the folder itself. Raises ValueError for an unknown package.
    """
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            top = name.partition(".")[0]
            if top in sys.stdlib_module_names or top in local:
                continue
            words = name.lower().replace("_", "-").split(".")
            tried = ["-".join(words[:count]) for count in range(len(words), 0, -1)]
            named = [wanted for wanted in tried if wanted in known]
            if named:
                yield known[named[0]]
            elif not any(package.startswith(f"{top}-") for package in known):
                raise ValueError(f"a client imports {top}, which is no known package")


def take(recipe: Recipe, folder: Path, *, router: bool = False) -> Taken:
    """Gather what a reader gets of a recipe, without writing anything.

    `folder` gives the project its name. With `router` the recipe is an `APIRouter`.
    Raises ValueError, with the reason, if the recipe cannot be taken, or not so.
    """
    book = recipe.root
    source = at_home(recipe)
    if router:
        try:
            source = as_router(source, recipe.slug)
        except ValueError as error:
            said = (
                f"{recipe.slug} cannot be a router: {error}. Take it without --router."
            )
            raise ValueError(said) from None
    files = {f"{recipe.slug}.py": source.encode(), **beside(recipe)}
    known = requirements()
    tools = {known[name] for name in TEST}
    packages = (metadata(recipe.source) or {}).get("dependencies", [])
    if "model" in recipe.needs:
        files[f"{starter.STAND_IN}.py"] = (
            Path(__file__).with_name("stand_in.py").read_bytes()
        )
    if "upstream" in recipe.needs:
        files[f"{upstream.RECIPE}.py"] = at_home(find(upstream.RECIPE)).encode()
    found = clients(recipe, book)
    modules = {recipe.slug, *(path.stem for path in found)}
    for path in found:
        text = path.read_text("utf-8")
        # What starts the recipe has to lie beside it, to find it.
        starts_it = path.suffix == ".py" and f"recipes.{recipe.slug}" in text
        text = own(text, recipe.slug)
        if path.suffix == ".py":
            tools |= set(packages_of(text, known, modules))
        place = path.relative_to(book / "docs").as_posix()
        files[path.name if starts_it else place] = text.encode()
    test = starter.starter(recipe, book, router=router)
    files[f"test_{recipe.slug}.py"] = test.encode()
    # What the recipe brings, fastapi's own pydantic among it, is not asked for twice.
    brought = {known.get(name) for name in recipe.packages | PART_OF_FASTAPI}
    taken = Taken(recipe.slug, files, sorted(packages), sorted(tools - brought))
    files[PROJECT] = project(taken, folder).encode()
    return taken


def written(taken: Taken, folder: Path) -> dict[str, bool]:
    """Write what was taken; give the files in their order, and whether each is new.

    A `pyproject.toml` that is there stays as it is, and so does a file that is the
    same. Raises as `write` does, and ValueError in the cookbook's own folder.
    """
    if folder.resolve().is_relative_to(ROOT):
        said = f"{folder.resolve()} is the cookbook itself. Name a folder of your own:"
        raise ValueError(f"{said} cookbook take {taken.slug} ../my-project")
    files = dict(taken.files)
    if (folder / PROJECT).exists():
        del files[PROJECT]
    new = {name: data for name, data in files.items() if not same(folder / name, data)}
    write(folder, new)
    return {name: name in new for name in files}


def same(path: Path, content: bytes) -> bool:
    """Tell whether this file is there already: recipes share some."""
    return path.is_file() and path.read_bytes() == content


def advice(taken: Taken, files: Iterable[str], folder: Path) -> list[str]:
    """Say what a reader does next: what to add to a project, or how to run the test."""
    if PROJECT not in files:
        there = named(folder / PROJECT)
        parts = {
            "Add to its dependencies:": taken.packages,
            "Add to what its tests need:": taken.tools,
        }
        said = [f"There is a {PROJECT} already."]
        for heading, lines in parts.items():
            missing = [f'"{line}"' for line in lines if package(line) not in there]
            if missing:
                said += [heading, "  " + ", ".join(missing)]
        return said if len(said) > 1 else [f"{said[0]} It names all that is needed."]
    wanted = " ".join(shlex.quote(line) for line in [*taken.packages, *taken.tools])
    return [
        "In that folder, run its test with uv:",
        "  uv run pytest",
        "or with pip:",
        f"  python -m pip install {wanted}",
        "  python -m pytest",
    ]


def named(file: Path) -> set[str]:
    """Name the packages that a `pyproject.toml` asks for; none if it cannot be read."""
    try:
        told = tomllib.loads(file.read_text("utf-8"))
        about = told.get("project", {})
        groups = [about.get("dependencies", [])]
        groups += about.get("optional-dependencies", {}).values()
        groups += told.get("dependency-groups", {}).values()
        lines = list(chain.from_iterable(groups))
    except (OSError, ValueError, AttributeError, TypeError):  # not as TOML or PEP 621
        return set()
    # A group may also include another one, as a table.
    return {package(line.strip()) for line in lines if isinstance(line, str)}


def project(taken: Taken, folder: Path) -> str:
    """Write a `pyproject.toml` for a folder that has none."""
    name = re.sub("[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-")
    return f"""\
[project]
name = "{name or taken.slug}"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = {in_toml(taken.packages)}

[dependency-groups]
dev = {in_toml(taken.tools)}

[tool.pytest.ini_options]
pythonpath = ["."]
"""


def in_toml(lines: list[str]) -> str:
    """Write a list of texts, each on a line of its own."""
    return "[\n" + "".join(f'    "{line}",\n' for line in lines) + "]"


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files into a folder, all or none; what is there stays as it is.

    Raises FileExistsError, naming each file that is there already, before anything is
    written; OSError if it cannot be written, and then all that was is taken back.
    """
    there = [name for name in files if (folder / name).exists()]
    if there:
        listed = ", ".join(there)
        said = f"These files are there already, and differ: {listed} in {folder}"
        raise FileExistsError(said)
    done: list[Path] = []
    try:
        for name, content in files.items():
            path = folder / PurePosixPath(name)
            for parent in reversed(path.parents):
                if not parent.exists():
                    parent.mkdir()
                    done.append(parent)
            # "x": what somebody else has written meanwhile is not overwritten either.
            with path.open("xb") as opened:
                done.append(path)
                opened.write(content)
    except BaseException:
        for path in reversed(done):
            with contextlib.suppress(OSError):
                path.rmdir() if path.is_dir() else path.unlink()
        raise
