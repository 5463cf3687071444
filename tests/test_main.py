"""`python -m tests`: what it runs, that two hands do it once, and what it gives."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import __main__ as suite
from tests.__main__ import ROOT, Plan, Step

pytestmark = pytest.mark.timeout(60)


def names(steps: list[Step]) -> list[str]:
    return [step.name for step in steps]


def test_it_runs_lint_types_and_all_tests_and_asks_for_the_coverage() -> None:
    everything = suite.plan(fast=False, recipe=None)
    folder = Path("folder")
    first, second = everything.first(folder), everything.second(folder)
    assert names(first) == ["tests, hand 1"]
    assert names(second) == ["lint", "format", "types", "tests, hand 2"]
    assert [step.command for step in second[:3]] == [
        ["ruff", "check"],
        ["ruff", "format", "--check"],
        ["mypy"],
    ]
    for step in (first[0], second[-1]):
        assert step.command[:2] == ["coverage", "run"]
        # No path is named, so pytest takes all that `testpaths` knows.
        assert [word for word in step.command if word.startswith("tests/")] == []
    assert everything.last(folder)[-1].command == ["coverage", "report"]


def test_the_fast_part_is_a_part_of_the_tests() -> None:
    command = suite.plan(fast=True, recipe=None).first(Path("folder"))[0].command
    assert command[-len(suite.FAST) :] == suite.FAST


def test_a_recipe_has_its_own_files_and_its_case_of_the_tests_for_all() -> None:
    one = suite.plan(fast=True, recipe="csv_export")
    assert "recipes/csv_export.py" in one.code
    assert {
        "tests/test_transcripts.py",
        "tests/recipes/test_csv_export.py",
        "tests/pitfalls/csv_export",
        "tests/servers/test_csv_export.py",
    } <= set(one.tests)
    assert all((ROOT / file).exists() for file in [*one.code, *one.tests])
    (report,) = one.last(Path("folder"))[1:]
    assert "recipes/csv_export.py" in report.command[-1]


def test_a_recipe_that_is_not_there_is_an_error_in_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        suite.main(["--fast", "--recipe", "tea"])
    assert ended.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == "python -m tests: error: there is no recipes/tea.py"


def script(code: str) -> list[str]:
    return ["timeit", "-n1", "-r1", code]


def test_a_step_that_fails_fails_the_run_and_the_others_are_run_and_shown(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Small(Plan):
        def first(self, _: Path) -> list[Step]:
            return [Step("one", script("print('first'); import no_such_module"))]

        def second(self, _: Path) -> list[Step]:
            return [
                Step("two", script("print('second'); raise SystemExit(3)")),
                Step("three", script("print('third')")),
            ]

        def last(self, _: Path) -> list[Step]:
            return [Step("four", script("print('fourth')"))]

    monkeypatch.setattr(suite, "plan", lambda **_: Small())
    assert suite.main([]) == 1
    said = capfd.readouterr().out
    for shown in ("first", "second", "third", "fourth"):
        assert said.count(f"{shown}\n") == 1
    assert "failed: one, two" in said
    assert said.index("second") < said.index("third") < said.index("fourth")


def test_a_run_without_a_failure_gives_zero(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Small(Plan):
        def first(self, _: Path) -> list[Step]:
            return [Step("one", script("1"))]

        def second(self, _: Path) -> list[Step]:
            return []

        def last(self, _: Path) -> list[Step]:
            return []

    monkeypatch.setattr(suite, "plan", lambda **_: Small())
    assert suite.main(["--fast"]) == 0
    assert "all is well" in capfd.readouterr().out


SHARED = """
import os, pathlib, pytest
@pytest.fixture(scope="module", autouse=True)
def module(request):
    yield
    note(f"leave {request.path.name}")
def note(text):
    with open("journal", "a") as journal:
        journal.write(f"{os.environ['HAND']} {text}\\n")
@pytest.mark.parametrize("n", range(20))
def test_it(request, n):
    # Both hands are at work before either has its second file.
    here = pathlib.Path(f"hand{os.environ['HAND']}")
    if n == 0 and not here.exists():
        here.touch()
        while not all(pathlib.Path(f"hand{h}").exists() for h in "12"):
            os.sched_yield()
    note(f"{request.path.name} {n}")
"""


def test_two_hands_run_each_file_once_and_as_a_whole(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # Two in a folder: it is closed also when the second is for the other hand.
    files = [f"test_{letter}.py" for letter in "abcdefgh"]
    for number, file in enumerate(files):
        folder = tmp_path / f"folder{number // 2}"
        folder.mkdir(exist_ok=True)
        (folder / file).write_text(SHARED, "utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\ntimeout = 30\n", "utf-8")
    share = tmp_path_factory.mktemp("share")
    options = ["-q", "-p", "tests.kit.share", f"--share={share}"]
    hands = [
        subprocess.Popen(
            [sys.executable, "-m", "pytest", *options],
            cwd=tmp_path,
            env={**os.environ, "HAND": str(number), "PYTHONPATH": str(ROOT)},
        )
        for number in (1, 2)
    ]
    assert [hand.wait() for hand in hands] == [0, 0]
    journal = [line.split() for line in (tmp_path / "journal").read_text().splitlines()]
    done = [(file, n) for _, file, n in journal if file != "leave"]
    assert sorted(done) == sorted((f, str(n)) for f in files for n in range(20))
    by_file = {(hand, file) for hand, file, _ in journal if file != "leave"}
    assert len(by_file) == len(files)  # no file was run by both
    assert {hand for hand, _ in by_file} == {"1", "2"}
    left = [what for _, leave, what in journal if leave == "leave"]
    assert sorted(left) == files


def test_a_recipe_chooses_its_cases_and_no_other(tmp_path: Path) -> None:
    known = tmp_path / "known.json"
    code = f"""
import json, pytest
class Note:
    def pytest_collection_finish(self, session):
        with open({str(known)!r}, "w") as file:
            json.dump([item.nodeid for item in session.items], file)
chosen = ["tests/test_transcripts.py", "tests/test_scripts.py", "tests/recipes"]
pytest.main(["--collect-only", "-q", "--recipe", "sse_basic", *chosen,
             "tests/pitfalls", "tests/test_shape.py"], plugins=[Note()])
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    ids = json.loads(known.read_text("utf-8"))
    files = {name.partition("::")[0] for name in ids}
    assert "tests/recipes/test_sse_basic.py" in files
    assert "tests/recipes/test_csv_export.py" not in files
    pitfalls = {file for file in files if file.startswith("tests/pitfalls/")}
    assert {Path(file).parent.name for file in pitfalls} == {"sse_basic"}
    transcripts = [name for name in ids if name.startswith("tests/test_transcripts")]
    assert [name.partition("[")[2] for name in transcripts] == ["sse_basic]"]
    shape = [name for name in ids if name.startswith("tests/test_shape.py")]
    assert shape
    assert all("holds_together" in name for name in shape)


def test_the_shared_folder_is_not_taken_for_the_root_of_the_tests(
    tmp_path: Path,
) -> None:
    words = [word for step in Plan().first(tmp_path) for word in step.command]
    assert any(str(tmp_path) in word for word in words)
    assert str(tmp_path) not in words
