"""docs/learn/take.md: what `cookbook take` puts into a reader's project, and its test.

Every recipe is taken into an empty folder of its own, and pytest is run there. What is
taken knows nothing of this repository.
"""

import ast
import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cookbook import catalog, cli, starter, take, transcript
from cookbook.catalog import ROOT, Recipe
from tests.kit.warm import IMPORTED, Warm, is_possible

runner = CliRunner(env={"COLUMNS": "80", "TERM": "dumb"})
RECIPES = catalog.recipes()
EACH = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.slug)
WAIT = 60  # seconds for one run of pytest; a busy machine needs some of them
OURS = re.compile(
    r"--8<--|\brecipes[./]|\bdocs/|\btests/|\btool\.cookbook|/work/|\bfrom cookbook\b"
)
# What a run of pytest imports beside what a server does.
IMPORTS = (*IMPORTED, "anyio._backends._asyncio", "fastapi.testclient", "pytest")
PYTEST = ["-q", "-p", "no:cacheprovider", "-W", "error"]


@dataclass
class Home:
    """A folder into which a recipe was taken, and what the command said."""

    folder: Path
    output: str

    @property
    def files(self) -> dict[str, str]:
        """The text of each file, by its path in the folder."""
        found = [path for path in self.folder.rglob("*") if path.is_file()]
        return {
            path.relative_to(self.folder).as_posix(): path.read_text("utf-8")
            for path in found
            if "__pycache__" not in path.parts
        }


def taken(slug: str, folder: Path, *options: str) -> Home:
    """Take a recipe into a folder as a reader does, which must succeed."""
    result = runner.invoke(cli.app, ["take", slug, str(folder), *options])
    assert result.exit_code == 0, result.output
    return Home(folder, result.stdout)


def put(recipe: Recipe, folder: Path, *, router: bool) -> Home:
    """Do what the command does, for a recipe that has been read already."""
    got = take.take(recipe, folder, router=router)
    files = take.written(got, folder)
    said = [*(str(folder / name) for name in files), *take.advice(got, files, folder)]
    return Home(folder, "\n".join(said))


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Home]:
    """Take every recipe, and each that can be a router once more as one."""
    top = tmp_path_factory.mktemp("homes")
    found = {}
    for recipe in RECIPES:
        slug = recipe.slug
        found[slug] = put(recipe, top / slug, router=False)
        folder = top / f"{slug}-router"
        with contextlib.suppress(ValueError):  # The reason has a test of its own.
            found[f"{slug} --router"] = put(recipe, folder, router=True)
    return found


def run_pytest(folder: Path) -> str:
    """Run pytest in a folder, and give what it wrote; it must succeed."""
    code, said = pytest_in(folder)
    assert code == 0, said
    return said


def pytest_in(folder: Path) -> tuple[int, str]:
    """Run pytest in a folder as its reader would, with no plugin of ours."""
    return run_in(folder, "pytest", PYTEST)


def run_in(folder: Path, module: str, arguments: list[str]) -> tuple[int, str]:
    """Run `python -m module` in a folder; give the exit code and what it wrote."""
    left_out = {"DATABASE_URL", "REDIS_URL", "STREAM_STORE", "PYTEST_CURRENT_TEST"}
    env = {name: value for name, value in os.environ.items() if name not in left_out}
    env |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    log = folder.with_name(f"{folder.name}.log")
    with log.open("wb") as output:
        if is_possible():
            process = Warm(
                module, arguments, cwd=folder, env=env, log=output, imports=IMPORTS
            )
            code = process.wait(WAIT)
        else:
            command = [sys.executable, "-m", module, *arguments]
            code = subprocess.run(
                command, cwd=folder, env=env, stdout=output, stderr=output, timeout=WAIT
            ).returncode
    return code, log.read_text("utf-8")


# Each recipe


@EACH
@pytest.mark.timeout(2 * WAIT)
def test_its_starter_test_passes_at_once(
    recipe: Recipe, homes: Mapping[str, Home]
) -> None:
    assert "1 passed" in run_pytest(homes[recipe.slug].folder)


ROUTERS = {
    "csv_export": "with nothing but routes",
    "llm_text": "with a lifespan, whose state its requests get",
    "sse_basic": "with dependencies and a page",
    "stream_limits": "with cookies",
}


@pytest.mark.timeout(2 * WAIT)
@pytest.mark.parametrize("slug", ROUTERS)
def test_a_router_that_is_included_passes_the_same_test(
    slug: str, homes: Mapping[str, Home]
) -> None:
    home = homes[f"{slug} --router"]
    assert "app.include_router(router)" in home.files[f"test_{slug}.py"]
    assert "1 passed" in run_pytest(home.folder)


@EACH
def test_what_is_taken_knows_nothing_of_this_repository(
    recipe: Recipe, homes: Mapping[str, Home]
) -> None:
    for name, text in homes[recipe.slug].files.items():
        if not name.startswith("vendor/"):
            assert not OURS.search(text), name


@EACH
def test_the_code_of_the_recipe_stays_the_same(
    recipe: Recipe, homes: Mapping[str, Home]
) -> None:
    slug = recipe.slug
    here = ast.parse(recipe.source.read_text("utf-8"))
    there = ast.parse(homes[slug].files[f"{slug}.py"])
    for module in (here, there):
        assert isinstance(module.body.pop(0), ast.Expr), "a module's docstring"
    expected = ast.dump(here).replace(f"'recipes.{slug}'", f"'{slug}'")
    assert ast.dump(there) == expected


@EACH
def test_what_its_docstring_says_can_be_typed_in_that_folder(
    recipe: Recipe, homes: Mapping[str, Home]
) -> None:
    home = homes[recipe.slug]
    summary, fields = catalog.described(
        home.folder / f"{recipe.slug}.py", "Run it", "Try it"
    )
    assert (summary, fields["Run it"]) == (
        recipe.summary,
        (f"uvicorn {recipe.slug}:app",),
    )
    for line, before in zip(fields["Try it"], recipe.tries, strict=True):
        assert shlex.split(line)[-1] == shlex.split(before)[-1]
        if file := starter.file_of(line):
            assert file in home.files


@EACH
def test_every_client_and_package_comes_along(
    recipe: Recipe, homes: Mapping[str, Home]
) -> None:
    slug, home = recipe.slug, homes[recipe.slug]
    names = {Path(name).name for name in home.files if name != f"{slug}.py"}
    names |= {Path(name).name for name in home.files if name == f"clients/{slug}.py"}
    page = (ROOT / "docs/recipes" / f"{slug}.md").read_text("utf-8")
    assert {Path(name).name for name in take.INCLUDED.findall(page)} <= names
    assert {path.name for path in (ROOT / "docs/clients").glob(f"{slug}.*")} <= names
    assert (f"{slug}.html" in home.files) == recipe.has_page
    project = tomllib.loads(home.files["pyproject.toml"])
    metadata = catalog.metadata(recipe.source) or {}
    assert project["project"]["dependencies"] == sorted(metadata["dependencies"])
    wanted = {
        re.split(r"[^\w-]", line)[0] for line in project["dependency-groups"]["dev"]
    }
    assert {"httpx2", "pytest"} <= wanted | recipe.packages


def test_every_file_is_as_ruff_would_write_it(homes: Mapping[str, Home]) -> None:
    top = next(iter(homes.values())).folder.parent
    names = [recipe.slug for recipe in RECIPES]
    first = f"lint.isort.known-first-party={[*names, starter.STAND_IN]}"
    ruff = [sys.executable, "-m", "ruff"]
    for command in (
        ["check", "--isolated", "--no-cache", "--select=ANN,B,D,E,F,I,UP,W"],
        ["format", "--isolated", "--no-cache", "--check"],
    ):
        options = ["--config", first]
        if command[0] == "check":
            options += ["--config", 'lint.pydocstyle.convention="google"']
            options += ["--ignore=D103,D105,D107"]
            options += ["--exclude=typed_client_models.py"]  # which is generated
        done = subprocess.run(
            [*ruff, *command, *options, str(top)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr


# The starter test is one


def changed(home: Home, target: Path, old: str, new: str) -> Path:
    """Copy a folder with one change in its recipe."""
    shutil.copytree(home.folder, target)
    path = target / f"{home.folder.name}.py"
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), "utf-8")
    return target


@pytest.mark.timeout(2 * WAIT)
@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (
            "app = FastAPI(",
            "class Whole(FastAPI):\n"
            "    async def __call__(self, scope, receive, send):\n"
            "        body = b''\n\n"
            "        async def gathered(message):\n"
            "            nonlocal body\n"
            "            body += message.get('body', b'')\n"
            "            if message['type'] == 'http.response.start':\n"
            "                await send(message)\n"
            "            elif not message.get('more_body'):\n"
            "                await send({'type': message['type'], 'body': body})\n\n"
            "        sent = send if scope['type'] == 'lifespan' else gathered\n"
            "        await super().__call__(scope, receive, sent)\n\n\n"
            "app = Whole(",
            'assert next(chunks) == b"Order 1 for Ada',
        ),
        ("Order {order.id} for", "Order no. {order.id} for", "assert next(chunks)"),
        (
            '"/async/{order_id}"',
            '"/sync2/{order_id}"',
            "assert response.status_code == 200",
        ),
    ],
    ids=["buffered", "other text", "other path"],
)
def test_the_starter_test_fails_when_the_recipe_is_broken(
    old: str, new: str, why: str, homes: Mapping[str, Home], tmp_path: Path
) -> None:
    folder = changed(homes["plain_text"], tmp_path / "plain_text", old, new)
    code, said = pytest_in(folder)
    assert code == 1
    assert re.search(rf"^> +{re.escape(why)}", said, re.MULTILINE), said


def test_it_says_what_stands_in_for_a_model_or_a_service(
    homes: Mapping[str, Home],
) -> None:
    for recipe in RECIPES:
        home = homes[recipe.slug]
        text = home.files[f"test_{recipe.slug}.py"]
        said = ast.get_docstring(ast.parse(text)) or ""
        has_model = "model" in recipe.needs
        assert (f"{starter.STAND_IN}.py" in home.files) == has_model
        assert ("No model and no key are needed" in said) == has_model
        assert ("plain_text.py stands in" in said) == ("upstream" in recipe.needs)
        assert len(text.splitlines()) < 80


def test_a_chunk_is_read_as_it_was_written() -> None:
    for content in (
        b"a\tb\\\r\n\nc",
        "Zoë\n".encode(),
        b"\xc3",
        b"a\\",
        b"\n\n",
        b"x\\\n",
    ):
        shown = "\n".join(transcript.show(content, "utf-8"))
        part = (
            f"0.001 s, {len(content)} bytes\n{shown}\n0.002 s, end: 1 chunks, 9 bytes\n"
        )
        text, whole = starter.first_chunk(part)
        assert (text.encode("utf-8", "surrogateescape"), whole) == (content, True)


def test_the_page_shows_the_test_that_is_written(homes: Mapping[str, Home]) -> None:
    for path, text in starter.shown().items():
        assert path.read_text("utf-8") == text, "run make docs"
        assert text == homes["plain_text"].files["test_plain_text.py"]


# What it refuses


def test_nothing_is_overwritten_and_nothing_else_is_written(tmp_path: Path) -> None:
    (tmp_path / "clients").mkdir()
    (tmp_path / "plain_text.py").write_text("mine")
    (tmp_path / "clients/plain_text.mjs").write_text("mine, too")
    result = runner.invoke(cli.app, ["take", "plain_text", str(tmp_path)])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "Nothing was written. These files are there already, and differ: "
        f"plain_text.py, clients/plain_text.mjs in {tmp_path}\n"
    )
    assert Home(tmp_path, "").files == {
        "plain_text.py": "mine",
        "clients/plain_text.mjs": "mine, too",
    }


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        ("plain_text", "http_proxy", "plain_text.py"),
        ("llm_text", "llm_chat", f"{starter.STAND_IN}.py"),
    ],
)
def test_a_second_recipe_leaves_a_file_alone_that_is_the_same(
    first: str, second: str, shared: str, tmp_path: Path
) -> None:
    before = taken(first, tmp_path).files
    home = taken(second, tmp_path)
    assert f"{tmp_path / shared} is there already, the same\n" in home.output
    assert f"{tmp_path / f'{second}.py'}\n" in home.output
    assert {name: home.files[name] for name in before} == before
    # What was changed since is no longer the same.
    (tmp_path / shared).write_text("mine")
    result = runner.invoke(cli.app, ["take", second, str(tmp_path)])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "Nothing was written. These files are there already, and differ: "
        f"{shared} in {tmp_path}\n"
    )


def test_a_file_that_cannot_be_written_takes_back_the_others(tmp_path: Path) -> None:
    (tmp_path / "clients").write_text("a file, not a folder")
    result = runner.invoke(cli.app, ["take", "plain_text", str(tmp_path)])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Nothing was written. ")
    assert str(tmp_path / "clients") in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["clients"]


def test_a_file_that_comes_meanwhile_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "exists", lambda _: False)
    monkeypatch.setattr(Path, "mkdir", lambda _: None)
    (tmp_path / "b").write_text("somebody else's")
    with pytest.raises(FileExistsError):
        take.write(tmp_path, {"a": b"ours", "b": b"ours"})
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    assert (tmp_path / "b").read_text() == "somebody else's"


def test_a_recipe_that_is_not_there_is_an_error_with_the_nearest_name(
    tmp_path: Path,
) -> None:
    result = runner.invoke(cli.app, ["take", "plain_txt", str(tmp_path / "new")])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "There is no recipe 'plain_txt'. Did you mean plain_text?\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_it_does_not_write_into_the_cookbook_itself() -> None:
    result = runner.invoke(cli.app, ["take", "plain_text", str(ROOT / "docs")])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "is the cookbook itself" in result.stderr
    assert result.stderr.endswith("cookbook take plain_text ../my-project\n")


REFUSED = {
    "app = App()": "its application is a class of its own",
    "x = 1": "it makes no `app` at the top",
    "app = FastAPI(debug=True)": "a router has no debug=",
    "app = FastAPI()\n@app.exception_handler(OSError)\ndef f(): ...": (
        "it handles exceptions for the whole application"
    ),
    "app = FastAPI()\napp.add_middleware(GZip)": "it adds a middleware",
    "app = FastAPI()\napp.mount('/x', y)": "it mounts another application",
    "app = FastAPI()\napp.state.x = 1": "it uses `app.state`",
    "app = FastAPI()\nserve(app)": "line 2 uses the application itself",
}


@pytest.mark.parametrize(("code", "why"), REFUSED.items(), ids=REFUSED.values())
def test_a_recipe_that_cannot_be_a_router_says_why(code: str, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        take.as_router(code, "tea")


def test_a_router_keeps_all_but_what_only_an_application_has() -> None:
    code = (
        '# /// script\n# dependencies = ["fastapi"]\n# ///\n'
        '"""Pour tea.\n\nRun it:   uvicorn tea:app\n"""\n\n'
        "import uvicorn\nfrom fastapi import Depends, FastAPI\n\n"
        'app = FastAPI(title="tea", max_body_size=9)  # app\n\n\n'
        '@app.get("/é/app")\ndef pour(pot: str = Depends(str)) -> str:\n'
        '    return "app"\n\n\n'
        'if __name__ == "__main__":\n    uvicorn.run(app)\n'
    )
    assert take.as_router(code, "tea") == (
        '"""Pour tea.\n\nUse it:   app.include_router(tea.router)\n"""\n\n'
        "from fastapi import APIRouter, Depends\n\n"
        "router = APIRouter(max_body_size=9)  # app\n\n\n"
        '@router.get("/é/app")\ndef pour(pot: str = Depends(str)) -> str:\n'
        '    return "app"\n'
    )


# A project that is there already, and a wheel


def test_a_project_that_is_there_gets_lines_to_add_and_keeps_its_own(
    tmp_path: Path,
) -> None:
    (tmp_path / "pyproject.toml").write_text("mine = 1\n")
    home = taken("sse_keepalive", tmp_path)
    assert home.files["pyproject.toml"] == "mine = 1\n"
    said = home.output.splitlines()
    at = said.index("There is a pyproject.toml already.")
    assert said[at + 1 :] == [
        "Add to its dependencies:",
        '  "anyio>=4.16", "fastapi>=0.165", "sse-starlette>=3.7", "uvicorn>=0.54"',
        "Add to what its tests need:",
        f'  "{take.requirements()["httpx2"]}", "{take.requirements()["pytest"]}"',
    ]


def test_what_a_project_asks_for_already_is_not_asked_for_again(tmp_path: Path) -> None:
    taken("plain_text", tmp_path)
    again = taken("plain_text", tmp_path).output.splitlines()
    well = "There is a pyproject.toml already. It names all that is needed."
    assert again[-1] == well
    more = taken("sse_keepalive", tmp_path).output.splitlines()
    assert more[-2:] == [
        "Add to its dependencies:",
        '  "anyio>=4.16", "sse-starlette>=3.7"',
    ]


@pytest.mark.parametrize(
    ("project", "missing"),
    [
        ('[project]\ndependencies = ["FastAPI[all] >=0.1"]', ["uvicorn"]),
        ('[project.optional-dependencies]\nweb = ["uvicorn[standard]"]', ["fastapi"]),
        (
            '[dependency-groups]\na = ["uvicorn"]\nb = [{include-group = "a"}]',
            ["fastapi"],
        ),
        ("[project]\ndependencies = 7", ["fastapi", "uvicorn"]),
        ('project = "tea"', ["fastapi", "uvicorn"]),
        ("no toml", ["fastapi", "uvicorn"]),
    ],
)
def test_it_reads_the_project_as_the_standards_say_or_lists_all(
    project: str, missing: list[str], tmp_path: Path
) -> None:
    (tmp_path / "pyproject.toml").write_text(project, "utf-8")
    said = taken("plain_text", tmp_path).output.splitlines()
    lines = {"fastapi": '"fastapi>=0.165"', "uvicorn": '"uvicorn>=0.54"'}
    wanted = [lines[name] for name in missing]
    assert said[said.index("Add to its dependencies:") + 1] == "  " + ", ".join(wanted)


def test_it_says_which_files_it_wrote_and_how_the_test_is_run(tmp_path: Path) -> None:
    home = taken("plain_text", tmp_path / "my-project")
    said = home.output.splitlines()
    assert set(said[: len(home.files)]) == {str(home.folder / f) for f in home.files}
    assert said[len(home.files) :] == [
        "In that folder, run its test with uv:",
        "  uv run pytest",
        "or with pip:",
        "  python -m pip install 'fastapi>=0.165' 'uvicorn>=0.54' "
        f"'{take.requirements()['httpx2']}' '{take.requirements()['pytest']}'",
        "  python -m pytest",
    ]
    assert 'name = "my-project"' in home.files["pyproject.toml"]


def test_as_a_router_it_is_taken_or_refused(tmp_path: Path) -> None:
    home = taken("csv_export", tmp_path / "my-project", "--router")
    assert "router = APIRouter()\n" in home.files["csv_export.py"]
    command = ["take", "cross_origin", str(tmp_path / "other"), "--router"]
    result = runner.invoke(cli.app, command)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "cross_origin cannot be a router: it adds a middleware. "
        "Take it without --router.\n"
    )
    assert not (tmp_path / "other").exists()


@pytest.mark.timeout(2 * WAIT)
def test_the_commands_of_the_page_can_be_typed_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clone").mkdir()
    monkeypatch.chdir(tmp_path / "clone")
    page = (ROOT / "docs/learn/take.md").read_text("utf-8")
    typed = re.findall("^cookbook (take .*)$", page, re.MULTILINE)
    for line in typed:
        result = runner.invoke(cli.app, shlex.split(line))
        assert result.exit_code == 0, result.output
    assert len(typed) == 2
    assert "cd ../my-project\npython -m pytest\n" in page
    assert "2 passed" in run_pytest(tmp_path / "my-project")
