"""What ties recipes, pages, tests, transcripts and notebooks together, as checks.

Each check looks at a tree (the repository, or a copy of it with one fault) and gives a
line for each thing that is missing, saying what to do about it.
"""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from cookbook import catalog

Check = Callable[[Path], Iterator[str]]

LINES, COLUMNS, SECTIONS = 120, 88, 4  # of a recipe
APPLICATIONS = {"llm_chat": 200}  # whole applications, and their lines
PAGE = 200  # lines
OURS = {"recipes", "cookbook", "tests", "benchmarks"}
PART_OF = {"pydantic": "fastapi", "starlette": "fastapi"}  # comes with
INCLUDE = re.compile(r'^\s*--8<-- "([^":]+)(?::([\w-]+))?"\s*$')
FENCE = re.compile(r"^( *)(```+)(\w*).*?\n(.*?)^\1\2 *$", re.MULTILINE | re.DOTALL)
START = re.compile(r"--8<-- \[start:([\w-]+)\]")
PANEL = re.compile(r'<live-panel recipe="([^"]*)" path="([^"]*)">')
COMMANDS = {
    ".venv/bin/jupyter lab notebooks"
}  # that are no recipe's, and run as they stand


def stems(root: Path, pattern: str) -> set[str]:
    """Name the files that a pattern finds, without their endings."""
    return {path.stem for path in root.glob(pattern) if not path.name.startswith("_")}


def recipes_of(notebook: Path) -> set[str]:
    """Name the recipes that a notebook imports."""
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    code = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    found: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    ours = [name.split(".")[1] for name in found if name.startswith("recipes.")]
    return set(ours) - {"pitfalls"}


def pages(root: Path) -> list[Path]:
    """List the pages."""
    return sorted((root / "docs").rglob("*.md"))


def rooms(root: Path) -> dict[str, set[str]]:
    """Say which recipes each room knows."""
    nav = (root / "mkdocs.yml").read_text("utf-8")
    index = (root / "docs/index.md").read_text("utf-8")
    used = [recipes_of(path) for path in root.glob("notebooks/*.ipynb")]
    tests = {name.removeprefix("test_") for name in stems(root, "tests/recipes/*.py")}
    return {
        "page docs/recipes/{}.md": stems(root, "docs/recipes/*.md"),
        "test tests/recipes/test_{}.py": tests,
        "transcript docs/transcripts/{}.txt": stems(root, "docs/transcripts/*.txt"),
        "nav entry recipes/{}.md": set(re.findall(r": recipes/(\w+)\.md", nav)),
        "link on docs/index.md to recipes/{}.md": set(
            re.findall(r"\(recipes/(\w+)\.md\)", index)
        ),
        "notebook that imports recipes.{}": set().union(*used),
    }


def every_room_has_every_recipe(root: Path) -> Iterator[str]:
    """Each recipe has its page, test, transcript, nav entry and notebook."""
    slugs = stems(root, "recipes/*.py")
    for room, known in rooms(root).items():
        for slug in sorted(slugs - known):
            yield f"recipes/{slug}.py lacks its {room.format(slug)}"


def nothing_is_orphaned(root: Path) -> Iterator[str]:
    """No room speaks of a recipe that is not there."""
    slugs = stems(root, "recipes/*.py")
    benches = {
        name.removeprefix("bench_") for name in stems(root, "benchmarks/bench_*")
    }
    more = {
        "recipes/{}.html": stems(root, "recipes/*.html"),
        "bench benchmarks/bench_{}.py": benches,
    }
    for room, known in (rooms(root) | more).items():
        for slug in sorted(known - slugs):
            yield f"orphaned: there is no recipes/{slug}.py for the {room.format(slug)}"


def every_pitfall_is_tested_and_shown(root: Path) -> Iterator[str]:
    """Each wrong version has a test and a place on the page of pitfalls."""
    pitfalls = stems(root, "recipes/pitfalls/*.py")
    tested = {n.removeprefix("test_") for n in stems(root, "tests/pitfalls/*.py")}
    for name in sorted(pitfalls - tested):
        yield f"recipes/pitfalls/{name}.py lacks its test tests/pitfalls/test_{name}.py"
    for name in sorted(tested - pitfalls):
        yield f"orphaned: there is no recipes/pitfalls/{name}.py for its test"
    for page in [root / "docs/pitfalls.md", root / "docs/recipes"]:
        files = page.glob("*.md") if page.is_dir() else [page]
        text = "".join(file.read_text("utf-8") for file in files)
        for name in sorted(pitfalls):
            if f"recipes/pitfalls/{name}.py:" not in text:
                yield f"recipes/pitfalls/{name}.py is not shown in docs/{page.name}"


def code_is_included(root: Path) -> Iterator[str]:
    """No code is typed into a page; a command is one that the tests know."""
    known = set(COMMANDS)
    urls: set[str] = set()
    for source in sorted((root / "recipes").glob("[!_]*.py")):
        recipe = catalog.read(source)
        known |= {recipe.run, *recipe.tries}
        urls |= {urlsplit(asked.path).path for asked in recipe.requests}
    makefile = (root / "Makefile").read_text("utf-8")
    known |= {f"make {name}" for name in re.findall(r"^(\w+):.*##", makefile, re.M)}
    for page in pages(root):
        name = page.relative_to(root)
        for _, _, language, body in FENCE.findall(page.read_text("utf-8")):
            for line in filter(str.strip, body.splitlines()):
                if language == "bash":
                    command = line.strip()
                    asked = urlsplit(catalog.request(command).path)
                    ours = command.startswith("curl ") and asked.path in urls
                    if command not in known and not ours:
                        yield f"{name}: no test knows the command {command!r}"
                elif not INCLUDE.match(line):
                    yield f"{name}: typed in instead of included: {line.strip()!r}"
                    break


def includes(root: Path) -> Iterator[tuple[Path, str, str]]:
    """List what each page includes: page, file and section (or nothing)."""
    for page in pages(root):
        for line in page.read_text("utf-8").splitlines():
            if found := INCLUDE.match(line):
                yield page.relative_to(root), found[1], found[2] or ""


def what_is_included_exists(root: Path) -> Iterator[str]:
    """Each included file is there, and has the section."""
    for page, file, section in includes(root):
        if not (root / file).is_file():
            yield f"{page}: there is no file {file} to include"
        elif section and section not in START.findall((root / file).read_text("utf-8")):
            yield f"{page}: {file} has no section {section}"


def every_section_is_shown(root: Path) -> Iterator[str]:
    """Each marked section is on some page; transcripts are shown by the panel."""
    shown = {(file, section) for _, file, section in includes(root)}
    for top in ("recipes", "tests/recipes", "docs/clients"):
        for path in sorted((root / top).rglob("*.*")):
            if path.suffix in {".py", ".html", ".js"}:
                file = path.relative_to(root).as_posix()
                for section in START.findall(path.read_text("utf-8")):
                    if (file, section) not in shown:
                        yield f"{file}: the section {section} is shown nowhere"


def a_recipe_keeps_to_its_size(root: Path) -> Iterator[str]:
    """A recipe is short and narrow; its sections, at most four, cut no statement."""
    for path in sorted((root / "recipes").glob("[!_]*.py")):
        name, text = path.relative_to(root), path.read_text("utf-8")
        lines = text.splitlines()
        limit = APPLICATIONS.get(path.stem, LINES)
        if len(lines) > limit:
            yield f"{name} has {len(lines)} lines; at most {limit} are allowed"
        for number, line in enumerate(lines, 1):
            if len(line) > COLUMNS:
                yield f"{name}:{number} has {len(line)} columns, not at most {COLUMNS}"
        if len(START.findall(text)) > SECTIONS:
            yield f"{name} has more than {SECTIONS} sections"
        marks = [n for n, line in enumerate(lines, 1) if "--8<-- [" in line]
        for node in ast.parse(text).body:
            end = node.end_lineno or node.lineno
            if any(node.lineno < mark <= end for mark in marks):
                yield f"{name}:{node.lineno} is cut by a section mark"


def imports(path: Path) -> set[str]:
    """Name the top-level packages that a file imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(
                (node.module or "").split(".")[0] if not node.level else "recipes"
            )
    return found - sys.stdlib_module_names


def a_recipe_stands_alone(root: Path) -> Iterator[str]:
    """A recipe imports nothing of ours, and declares the packages that it imports."""
    for path in sorted((root / "recipes").glob("[!_]*.py")):
        name = path.relative_to(root)
        for package in sorted(imports(path) & OURS):
            yield f"{name} imports {package}, which is ours; a recipe stands alone"
        block = re.search(r"^# /// script\n((?:#.*\n)+?)# ///$", path.read_text(), re.M)
        if not block:
            yield f"{name} lacks its block of inline metadata (# /// script)"
            continue
        metadata = tomllib.loads(re.sub(r"^# ?", "", block[1], flags=re.M))
        declared = {
            re.split(r"\W*[<>=~\[]", item)[0].replace("-", "_")
            for item in metadata["dependencies"]
        }
        used = {PART_OF.get(p, p) for p in imports(path) - OURS}
        for package in sorted(used ^ declared):
            fault = "imports undeclared" if package in used else "declares unused"
            yield f"{name} {fault} {package}"


# Every key is taken away, and a socket, a connection or a thread ends the import.
GUARDED = """
import sys, threading, importlib
def hook(event, args):
    if event.startswith("socket.") and event != "socket.gethostname":
        raise SystemExit(f"opens a socket ({event})")
def start(thread):
    raise SystemExit("starts a thread")
import asyncio, uvicorn, fastapi
sys.addaudithook(hook)
threading.Thread.start = start
importlib.import_module(f"recipes.{sys.argv[1]}")
"""


def importing_does_nothing(root: Path) -> Iterator[str]:
    """Importing a recipe opens no socket, starts no thread and needs no key."""
    keep = {"PATH", "HOME", "LANG", "SYSTEMROOT"}
    bare = {key: value for key, value in os.environ.items() if key in keep}
    for slug in sorted(stems(root, "recipes/*.py")):
        command = [sys.executable, "-c", GUARDED, slug]
        done = subprocess.run(
            command, cwd=root, env=bare, capture_output=True, text=True, timeout=30
        )
        if done.returncode:
            reason = done.stderr.strip().splitlines()[-1]
            yield f"recipes/{slug}.py cannot be imported alone: {reason}"


def a_docstring_says_how_to_run_and_try(root: Path) -> Iterator[str]:
    """The docstring has its lines, and they are this recipe's."""
    for path in sorted((root / "recipes").glob("[!_]*.py")):
        name = path.relative_to(root)
        try:
            recipe = catalog.read(path)
        except ValueError as error:
            yield f"recipes/{error}"
            continue
        if recipe.run != f"uvicorn recipes.{path.stem}:app":
            yield f"{name}: the line Run it: starts another recipe"
        routes = re.findall(r'@app\.(get|post)\(\s*"([^"]+)"', path.read_text("utf-8"))
        known = [(method, re.sub(r"\{[^}]+\}", "[^/]+", way)) for method, way in routes]
        for line, asked in zip(recipe.tries, recipe.requests, strict=True):
            if not line.startswith("curl ") or "http://127.0.0.1:8000/" not in line:
                yield f"{name}: {line!r} is no curl of port 8000 on this machine"
            wanted = asked.method.lower(), urlsplit(asked.path).path
            if not any(m == wanted[0] and re.fullmatch(r, wanted[1]) for m, r in known):
                yield f"{name}: the path of {line!r} is no route"


def the_readme_table_is_the_generated_one(root: Path) -> Iterator[str]:
    """The README's table is what the recipes say."""
    known = [catalog.read(path) for path in sorted((root / "recipes").glob("[!_]*.py"))]
    found = catalog.TABLE.search((root / "README.md").read_text("utf-8"))
    if not found or found[0] != catalog.table(known):
        yield "README.md: the table of recipes is out of date; run make docs"


def a_page_can_be_read(root: Path) -> Iterator[str]:
    """A page is not too long, and its panels show requests of its transcripts."""
    for page in pages(root):
        name, text = page.relative_to(root), page.read_text("utf-8")
        if (lines := text.count("\n")) > PAGE:
            yield f"{name} has {lines} lines; at most {PAGE} are allowed"
        panels = PANEL.findall(text)
        if page.parent.name == "recipes" and page.stem not in {
            slug for slug, _ in panels
        }:
            yield f"{name} has no live panel of its recipe"
        for slug, path in panels:
            source = root / "recipes" / f"{slug}.py"
            if not source.exists() or path not in [
                asked.path for asked in catalog.read(source).requests
            ]:
                yield f"{name}: the panel asks for {path!r}, which {slug!r} never tries"


def a_test_names_its_page(root: Path) -> Iterator[str]:
    """The test of a recipe opens with the page whose claims it proves."""
    for path in sorted((root / "tests/recipes").glob("test_*.py")):
        slug = path.stem.removeprefix("test_")
        if not path.read_text("utf-8").startswith(f'"""docs/recipes/{slug}.md: '):
            yield f"tests/recipes/{path.name} does not open with docs/recipes/{slug}.md"


CHECKS: list[Check] = [
    every_room_has_every_recipe,
    nothing_is_orphaned,
    every_pitfall_is_tested_and_shown,
    code_is_included,
    what_is_included_exists,
    every_section_is_shown,
    a_recipe_keeps_to_its_size,
    a_recipe_stands_alone,
    importing_does_nothing,
    a_docstring_says_how_to_run_and_try,
    the_readme_table_is_the_generated_one,
    a_page_can_be_read,
    a_test_names_its_page,
]
