"""Every notebook runs, is kept with its outputs, and has exercises that check.

Each rule is a function from a notebook to complaints, one line each; a test feeds it
a notebook that breaks the rule and sees the complaint.
"""

import ast
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import nbformat
import psutil
import pytest
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from websockets.sync.client import connect

from cookbook import course
from cookbook import notebook as kitchen
from cookbook.catalog import ROOT, recipes
from cookbook.notebook import (
    METADATA,
    NOTEBOOKS,
    copy_missing,
    hide_solutions,
    read,
    run,
    tags,
    trust,
)
from tests.kit.kernels import warm_kernels
from tests.kit.servers import WAIT, need, until

pytestmark = pytest.mark.timeout(180)

ABREAST = 3  # notebooks that run at the same time
PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
LAB = 60  # seconds, the limit of a wait for JupyterLab; it imports a lot
LAB_URL = re.compile(r"(http://127\.0\.0\.1:\d+)/lab\?token=(\w+)")
LARGEST = 150_000  # bytes
ABSOLUTE = re.compile(r"(?<![\w.:/])/(?:home|root|work|tmp|Users)\b|\b[A-Z]:\\")
NOT_KEPT = {"exercise", "solution"}  # tags of cells whose outputs are not kept
EXERCISES = range(2, 5)  # how many a chapter has
CHECKS = "\n# Checks\n"  # what stands between a function and its checks

every_notebook = pytest.mark.parametrize("path", PATHS, ids=[p.stem for p in PATHS])


Run = Callable[[Path], NotebookNode]


@pytest.fixture(scope="module", autouse=True)
def without_a_key() -> Iterator[None]:
    """Start all kernels warm, and without the keys that a developer may have."""
    with pytest.MonkeyPatch.context() as patch, warm_kernels():
        for name in filter(lambda name: name.endswith("_API_KEY"), {*os.environ}):
            patch.delenv(name)
        yield


@pytest.fixture(scope="module")
def attempted(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Run a notebook once for all tests, its exercises unsolved and last.

    A notebook waits for streams most of the time, so several run side by side.
    """
    ours = [item for item in request.session.items if item.path == request.path]
    calls = [getattr(item, "callspec", None) for item in ours]
    paths = dict.fromkeys(c.params["path"] for c in calls if c and "path" in c.params)
    with ThreadPoolExecutor(ABREAST) as pool:
        runs: dict[Path, Future[NotebookNode]] = {
            path: pool.submit(run, path, attempt=True) for path in paths
        }
        yield lambda path: runs[path].result()
        pool.shutdown(cancel_futures=True)


def code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def failed(cell: NotebookNode) -> bool:
    return any(output.output_type == "error" for output in cell.outputs)


def texts(value: object) -> Iterator[str]:
    """Give every string in a notebook: sources, outputs, metadata, keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from texts(key)
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


def errors(kept: NotebookNode) -> list[str]:
    return [
        f"cell {cell.id} is kept with an error" for cell in code(kept) if failed(cell)
    ]


def missing_outputs(kept: NotebookNode, fresh: NotebookNode) -> list[str]:
    """Say where a kept notebook has other kinds of outputs than a fresh run."""
    found = []
    for old, new in zip(code(kept), code(fresh), strict=True):
        wanted = [] if NOT_KEPT & {*tags(new)} else new.outputs
        kinds = [o.output_type for o in old.outputs], [o.output_type for o in wanted]
        if kinds[0] != kinds[1]:
            found.append(
                f"cell {old.id} is kept with {kinds[0]}, a run gives {kinds[1]}"
            )
    return found


def absolute_paths(kept: NotebookNode) -> list[str]:
    found = (match for text in texts(kept) for match in ABSOLUTE.finditer(text))
    return [
        f"holds an absolute path: {match.string[match.start() :][:40]!r}"
        for match in found
    ]


def traces_of_the_run(kept: NotebookNode) -> list[str]:
    """Say what is kept that tells of one run: times, versions, an editor's state."""
    odd = kept.metadata.keys() - {"kernelspec", "language_info"}
    found = [f"has metadata {name!r}" for name in sorted(odd)]
    if kept.metadata.get("kernelspec", {}).get("name") != "python3":
        found.append("is not for the kernel python3")
    if "version" in kept.metadata.get("language_info", {}):
        found.append("keeps the version of the Python that ran it")
    for cell in kept.cells:
        found += [
            f"cell {cell.id} has metadata {name!r}"
            for name in sorted(cell.metadata.keys() - METADATA)
        ]
    for cell in code(kept):
        found += [
            f"cell {cell.id} has metadata on an output"
            for output in cell.outputs
            if output.get("metadata")
        ]
    return found


def told_solutions(kept: NotebookNode) -> list[str]:
    """Say which solution tells that it passed before a reader has done the exercise."""
    return [
        f"solution {cell.id} is kept with its output"
        for cell in code(kept)
        if "solution" in tags(cell) and (cell.outputs or cell.execution_count)
    ]


def bad_exercises(fresh: NotebookNode) -> list[str]:
    """Say which exercise does not teach; `fresh` is of a run that attempted them."""
    cells = fresh.cells
    marked = [n for n, cell in enumerate(cells) if "exercise" in tags(cell)]
    few = len(marked) in EXERCISES
    found = [] if few else [f"has {len(marked)} exercises, not two to four"]
    found += [
        f"cell {cell.id} is a solution without an exercise right above"
        for n, cell in enumerate(cells)
        if "solution" in tags(cell) and n - 1 not in marked
    ]
    for n in marked:
        task, answer = cells[n], cells[min(n + 1, len(cells) - 1)]
        if not failed(task):
            found.append(f"exercise {task.id} passes unsolved")
        if "solution" not in tags(answer):
            found.append(f"exercise {task.id} has no solution right below")
            continue
        if failed(answer) or not answer.outputs:
            found.append(f"solution {answer.id} does not say that it passed")
        if not answer.metadata.get("jupyter", {}).get("source_hidden"):
            found.append(f"solution {answer.id} is not folded")
        checks = [cell.source.partition(CHECKS)[2] for cell in (task, answer)]
        if not checks[0] or checks[0] != checks[1]:
            found.append(f"exercise {task.id} and its solution check different things")
    return found


def bad_headings(kept: NotebookNode) -> list[str]:
    """Say where a title is missing or not alone, or a level is left out."""
    text = "\n".join(c.source for c in kept.cells if c.cell_type == "markdown")
    levels = [len(marks) for marks in re.findall(r"^(#+) ", text, re.M)]
    found = [] if levels[:1] == [1] else ["does not begin with a title"]
    if levels.count(1) > 1:
        found.append("has a second title")
    return found + [
        f"has a heading of level {after} below one of level {before}"
        for before, after in pairwise(levels)
        if after > before + 1
    ]


def pictures(kept: NotebookNode) -> list[str]:
    """Give every picture that is kept, as SVG."""
    return [
        svg
        for cell in code(kept)
        for output in cell.outputs
        for svg in re.findall(
            "<svg .*?</svg>", output.get("data", {}).get("text/html", ""), re.S
        )
    ]


def imported(notebook: NotebookNode) -> set[str]:
    """Give the modules of `recipes` that a notebook imports, by their dotted names."""
    names = set[str]()
    for cell in code(notebook):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                from_package = (ROOT / node.module.replace(".", "/")).is_dir()
                names |= {
                    f"{node.module}.{alias.name}" if from_package else node.module
                    for alias in node.names
                }
    return {name for name in names if name.startswith("recipes.")}


def unknown_recipes(notebook: NotebookNode) -> list[str]:
    return [
        f"imports {name}, which does not exist"
        for name in sorted(imported(notebook))
        if not (ROOT / name.replace(".", "/")).with_suffix(".py").exists()
    ]


def orphans(notebooks: list[NotebookNode]) -> list[str]:
    used = set[str]().union(*map(imported, notebooks))
    return [
        f"no notebook imports recipes.{recipe.slug}"
        for recipe in recipes()
        if f"recipes.{recipe.slug}" not in used
    ]


def accept(path: Path, complaints: list[str]) -> None:
    __tracebackhide__ = True
    if complaints:
        pytest.fail("\n".join(f"{path.name} {it}" for it in complaints), pytrace=False)


def test_the_course_has_nine_chapters() -> None:
    assert [path.stem for path in PATHS] == sorted(course.CHAPTERS)
    assert len(PATHS) == 9


@every_notebook
def test_it_runs_from_a_fresh_kernel(path: Path, attempted: Run) -> None:
    try:
        attempted(path)
    except CellExecutionError as error:
        accept(path, [f"fails: {error.ename}: {error.evalue}"])


@every_notebook
def test_it_is_kept_with_its_outputs_and_without_errors(
    path: Path, attempted: Run
) -> None:
    kept = read(path)
    complaints = missing_outputs(kept, attempted(path))
    accept(path, errors(kept) + told_solutions(kept) + complaints)


@every_notebook
def test_it_is_portable_and_tells_of_no_run(path: Path) -> None:
    accept(path, absolute_paths(read(path)) + traces_of_the_run(read(path)))


@every_notebook
def test_it_is_small(path: Path) -> None:
    size = path.stat().st_size
    accept(path, [f"is {size:,} bytes"] if size >= LARGEST else [])


@every_notebook
def test_its_exercises_fail_until_done_and_its_solutions_pass(
    path: Path, attempted: Run
) -> None:
    accept(path, bad_exercises(attempted(path)))


@every_notebook
def test_it_imports_recipes_that_exist(path: Path) -> None:
    accept(path, unknown_recipes(read(path)))


@every_notebook
def test_it_says_what_one_can_do_afterwards_in_30_to_60_minutes(path: Path) -> None:
    chapter = course.read(ROOT, path.stem)
    assert 30 <= chapter.minutes <= 60
    assert "?" in course.text(chapter.cells[0]["source"]), "the question comes first"


@every_notebook
def test_its_headings_are_in_order(path: Path) -> None:
    accept(path, bad_headings(read(path)))


@every_notebook
def test_it_has_a_picture_that_can_be_heard(path: Path) -> None:
    found = pictures(read(path))
    assert found
    assert all('role="img"' in svg and 'aria-label="' in svg for svg in found)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("arrivals", "Arrivals over"),
        ("memory over rows", "kB over rows"),
        ("time to first token", "until the last token"),
        ("lag", "How late each event was"),
    ],
)
def test_the_course_shows(kind: str, words: str) -> None:
    found = [svg for path in PATHS for svg in pictures(read(path))]
    assert any(words in svg.partition(">")[0] for svg in found), kind


def test_every_recipe_is_in_a_notebook() -> None:
    assert orphans([read(path) for path in PATHS]) == []


# The rules refuse what they should.


node: Callable[[dict[str, object]], NotebookNode] = nbformat.from_dict
write: Callable[[NotebookNode, Path], None] = nbformat.write


def cell(
    source: str, *outputs: NotebookNode, tag: str = "", **metadata: object
) -> NotebookNode:
    if tag:
        metadata["tags"] = [tag]
    made = {"cell_type": "code", "id": tag or "main", "execution_count": None}
    return node(
        {**made, "source": source, "outputs": list(outputs), "metadata": metadata}
    )


def book(*cells: NotebookNode) -> NotebookNode:
    language, kernel = {"name": "python"}, {"name": "python3", "display_name": "Python"}
    metadata = {"language_info": language, "kernelspec": kernel}
    made = {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata}
    return node({**made, "cells": list(cells)})


def says(text: str) -> NotebookNode:
    return node({"output_type": "stream", "name": "stdout", "text": text})


def fails() -> NotebookNode:
    error = {"ename": "ValueError", "evalue": "no tea", "traceback": []}
    return node({"output_type": "error", **error})


def lesson() -> NotebookNode:
    """Make a notebook with three good exercises."""
    cells = []
    for name in ("a", "b", "c"):
        task = cell(f"{name} = 0\n# Checks\nassert {name}", fails(), tag="exercise")
        answer = cell(
            f"{name} = 1\n# Checks\nassert {name}",
            says("passed"),
            tag="solution",
            jupyter={"source_hidden": True},
        )
        cells += [task, answer]
    return book(*cells)


def test_a_good_notebook_is_not_refused() -> None:
    good = lesson()
    assert bad_exercises(good) == traces_of_the_run(good) == absolute_paths(good) == []


def test_a_kept_error_is_refused() -> None:
    assert errors(book(cell("", fails()))) == ["cell main is kept with an error"]


def test_a_notebook_kept_without_outputs_is_refused() -> None:
    kept, fresh = book(cell("print(1)")), book(cell("print(1)", says("1")))
    message = "cell main is kept with [], a run gives ['stream']"
    assert missing_outputs(kept, fresh) == [message]


def test_a_solution_that_is_kept_with_its_output_is_refused() -> None:
    kept = lesson()
    assert told_solutions(kept) == ["solution solution is kept with its output"] * 3
    run_once = deepcopy(kept)
    hide_solutions(kept)
    assert told_solutions(kept) == []
    # What stands above it, and what a run gives, stay as they were.
    assert kept.cells[0] == run_once.cells[0]
    assert (
        missing_outputs(kept, run_once)
        == ["cell exercise is kept with ['error'], a run gives []"] * 3
    )


@pytest.mark.parametrize(
    "notebook",
    [
        book(cell("open('/home/ada/orders.csv')")),
        book(cell("", says("File /root/x.py"))),
        book(cell("", says("'/tmp/x'"))),
        book(cell("", says("C:\\Users\\ada"))),
        book(cell("", papermill={"input_path": "/work/x.ipynb"})),
    ],
)
def test_an_absolute_path_is_refused(notebook: NotebookNode) -> None:
    assert "holds an absolute path" in absolute_paths(notebook)[0]


def test_a_url_or_a_route_is_no_absolute_path() -> None:
    routes = "http://127.0.0.1:8000/tmp /async/1 data:\\n ./work recipes/home"
    assert absolute_paths(book(cell("", says(routes)))) == []


def test_execution_timestamps_are_refused() -> None:
    times = {"iopub.status.busy": "2026-01-01T09:00:00Z"}
    notebook = book(cell("", execution=times))
    assert traces_of_the_run(notebook) == ["cell main has metadata 'execution'"]


def spoil(change: Callable[[list[NotebookNode]], object]) -> list[str]:
    notebook = deepcopy(lesson())
    change(notebook.cells)
    return bad_exercises(notebook)


def test_an_exercise_that_passes_unsolved_is_refused() -> None:
    assert spoil(lambda cells: cells[0].outputs.clear()) == [
        "exercise exercise passes unsolved"
    ]


def test_an_exercise_without_a_solution_is_refused() -> None:
    assert "exercise exercise has no solution right below" in spoil(
        lambda cells: cells.pop()
    )


def test_a_solution_that_fails_is_refused() -> None:
    def fail(cells: list[NotebookNode]) -> None:
        cells[1].outputs = [fails()]

    assert spoil(fail) == ["solution solution does not say that it passed"]


def test_a_solution_that_lies_open_is_refused() -> None:
    assert spoil(lambda cells: cells[1].metadata.pop("jupyter")) == [
        "solution solution is not folded"
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("## Tea\n### Pot", "does not begin with a title"),
        ("# Tea\n## Pot\n# Honey", "has a second title"),
        ("# Tea\n### Pot", "has a heading of level 3 below one of level 1"),
    ],
)
def test_headings_out_of_order_are_refused(text: str, complaint: str) -> None:
    cells = [node({"cell_type": "markdown", "source": text})]
    assert bad_headings(book(*cells)) == [complaint]


def test_a_solution_with_other_checks_is_refused() -> None:
    def drop(cells: list[NotebookNode]) -> None:
        cells[1].source = "a = 1"

    assert spoil(drop) == ["exercise exercise and its solution check different things"]


@pytest.mark.parametrize("count", [1, 5])
def test_one_exercise_is_too_few_and_five_are_too_many(count: int) -> None:
    def change(cells: list[NotebookNode]) -> None:
        cells[:] = deepcopy(cells[:2]) * count

    assert spoil(change) == [f"has {count} exercises, not two to four"]


def test_a_recipe_that_does_not_exist_is_refused() -> None:
    notebook = book(cell("import recipes.tea\nfrom recipes.pitfalls import pot"))
    assert unknown_recipes(notebook) == [
        "imports recipes.pitfalls.pot, which does not exist",
        "imports recipes.tea, which does not exist",
    ]


def test_a_recipe_that_no_notebook_imports_is_an_orphan() -> None:
    others = [book(cell("from recipes import csv_export\nimport recipes.sse_basic"))]
    complaints = orphans(others)
    assert "no notebook imports recipes.plain_text" in complaints
    assert not any("csv_export" in it or "sse_basic" in it for it in complaints)


def test_a_cell_that_fails_stops_the_run(tmp_path: Path) -> None:
    path = tmp_path / "broken.ipynb"
    write(book(cell("raise ValueError('no tea')")), path)
    with pytest.raises(CellExecutionError, match="no tea"):
        run(path)


def test_a_run_leaves_exercises_alone_unless_they_are_attempted(tmp_path: Path) -> None:
    path = tmp_path / "course.ipynb"
    source = cell("import os; os.environ['TEA']", tag="exercise", execution={"a": "b"})
    write(book(source, cell("print('passed')", says("long ago"))), path)
    untouched, main = run(path).cells
    assert (untouched.outputs, untouched.execution_count) == ([], None)
    assert untouched.metadata == {"tags": ["exercise"]}
    assert [output.text for output in main.outputs] == ["passed\n"]
    assert failed(run(path, attempt=True).cells[0])


# The commands: `make notebooks` opens, `make docs` keeps.


def test_what_is_kept_has_the_outputs_of_a_run_but_for_solutions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = cell("raise ValueError", tag="exercise")
    answer = cell("print('passed')", says("passed"), tag="solution")
    write(book(cell("print('tea')"), task, answer), tmp_path / "course.ipynb")
    monkeypatch.setattr(kitchen, "NOTEBOOKS", tmp_path)
    kitchen.keep()
    main, *others = read(tmp_path / "course.ipynb").cells
    assert [output.text for output in main.outputs] == ["tea\n"]
    assert [(c.outputs, c.execution_count) for c in others] == [([], None)] * 2


def test_copies_are_made_once_and_what_a_reader_has_is_never_touched(
    tmp_path: Path,
) -> None:
    source, mine = tmp_path / "notebooks", tmp_path / "my-notebooks"
    source.mkdir()
    (source / "a.ipynb").write_text("{}", "utf-8")
    assert copy_missing(source, mine) == ["a.ipynb"]
    (mine / "a.ipynb").write_text("my work", "utf-8")
    (mine / "own.ipynb").write_text("my own", "utf-8")
    (source / "a.ipynb").write_text("renewed", "utf-8")
    (source / "b.ipynb").write_text("{}", "utf-8")
    assert copy_missing(source, mine) == ["b.ipynb"]
    assert copy_missing(source, mine) == []
    texts = {path.name: path.read_text("utf-8") for path in mine.iterdir()}
    assert texts == {"a.ipynb": "my work", "b.ipynb": "{}", "own.ipynb": "my own"}


def test_the_pictures_of_a_copy_are_shown_until_another_program_changes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "signatures"))
    kept, changed = (NOTEBOOKS / f"{name}.ipynb" for name in ("tokens", "fan_out"))
    mine = tmp_path / "mine"
    mine.mkdir()
    for path in (kept, changed):
        (mine / path.name).write_bytes(path.read_bytes())
    trust(mine.iterdir())
    notebook = read(mine / changed.name)
    notebook.cells[0].source += "\nMore."
    notary: Any = importlib.import_module("nbformat.sign").NotebookNotary()
    assert notary.check_signature(read(mine / kept.name))
    assert not notary.check_signature(notebook)


def git(tree: Path, *arguments: str) -> str:
    program = shutil.which("git") or need("git", "apt-get install git")
    names = ["-c", "user.name=Ada", "-c", "user.email=ada@shop.example"]
    command = [program, "-C", str(tree), *names, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Give a clean repository with a copy of all that the notebooks need."""
    tree = tmp_path / "a book"
    no_cache = shutil.ignore_patterns("__pycache__")
    for part in ("cookbook", "recipes", "notebooks"):
        shutil.copytree(ROOT / part, tree / part, ignore=no_cache)
    shutil.copy(ROOT / ".gitignore", tree)
    git(tree, "init", "--quiet")
    git(tree, "add", ".")
    git(tree, "commit", "--quiet", "--message", "All")
    return tree


def said_in_a_kernel(url: str, token: str, source: str) -> str:
    """Run one line in a new kernel of a Jupyter server, and give what it printed."""
    headers = {"Authorization": f"token {token}"}
    with httpx2.Client(base_url=url, headers=headers, timeout=LAB) as http:
        kernel = http.post("/api/kernels", json={"path": ""}).raise_for_status()
        place = url.replace("http", "ws") + f"/api/kernels/{kernel.json()['id']}"
    content = {"code": source, "silent": False, "store_history": False}
    header = {"msg_id": "1", "msg_type": "execute_request", "version": "5.3"}
    header |= {"session": "1", "username": "ada", "date": "2026-01-01T00:00:00Z"}
    parts = {"parent_header": {}, "metadata": {}, "channel": "shell", "buffers": []}
    said = ""
    with connect(f"{place}/channels", additional_headers=headers) as socket:
        socket.send(json.dumps({**parts, "header": header, "content": content}))
        while True:
            message = json.loads(socket.recv(LAB))
            if message["parent_header"].get("msg_id") != "1":
                continue
            match message["msg_type"]:
                case "stream":
                    said += message["content"]["text"]
                case "error":
                    raise AssertionError("\n".join(message["content"]["traceback"]))
                case "execute_reply":
                    # Streams may come after it; idle comes last.
                    continue
                case "status" if message["content"]["execution_state"] == "idle":
                    return said


def is_there(url: str) -> bool:
    try:
        return httpx2.get(url, timeout=LAB).status_code in {200, 302}
    except httpx2.ConnectError:
        return False


def test_open_serves_copies_in_jupyterlab_and_touches_no_tracked_file(
    tree: Path,
) -> None:
    command = [sys.executable, "-m", "cookbook.notebook", "open", "--no-browser"]
    # Only what the command itself does lets the kernel find this tree's recipes.
    with subprocess.Popen(
        command, cwd=tree, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout
        try:
            said = ""
            while not (found := LAB_URL.search(said)):
                line = process.stdout.readline()
                assert line, said
                said += line
            url, token = found[1], found[2]
            assert said.startswith("Opening my-notebooks/, which holds your own copies")
            # It says its address a moment before it listens there.
            until(lambda: is_there(f"{url}/lab"), "JupyterLab", LAB)
            # Where the course's pages lead, if this is the first JupyterLab here.
            chapter = course.LAB.replace("http://127.0.0.1:8888", url)
            query = {"token": token}
            found_there = httpx2.get(f"{chapter}/first_stream.ipynb", params=query)
            assert found_there.status_code == 200
            assert '"news": {"disabled": true}' in found_there.text
            listed = httpx2.get(f"{url}/api/contents?token={token}", timeout=LAB).json()
            names = {path.name for path in NOTEBOOKS.glob("*.ipynb")}
            assert {item["name"] for item in listed["content"]} == names
            source = "import os, recipes.plain_text as r; print(r.__file__, end=' ')"
            place = f"{tree}/recipes/plain_text.py {tree}/my-notebooks\n"
            source += "; print(os.getcwd())"
            assert said_in_a_kernel(url, token, source) == place
            kernels = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGINT)
            assert process.wait(LAB) == 0
        finally:
            process.kill()
    gone, alive = psutil.wait_procs(kernels, timeout=WAIT)
    assert (len(gone) > 0, alive) == (True, [])
    assert git(tree, "status", "--porcelain") == ""


def test_without_a_command_it_says_what_there_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["notebook"])
    with pytest.raises(SystemExit, match="2"):
        kitchen.main()
    assert "required: command" in capsys.readouterr().err
