"""`python -m tests`: what it runs, that one hand runs each test, and what it gives."""

import json
import os
import re
import subprocess
import sys
from itertools import chain
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
    first, second, *others = everything.work(folder)
    assert names(first) == ["tests, hand 1"]
    assert names(second) == ["lint", "format", "types", "tests, hand 2"]
    assert [names(other) for other in others] == [["tests, hand 3"], ["tests, hand 4"]]
    assert [step.command for step in second[:3]] == [
        ["ruff", "check"],
        ["ruff", "format", "--check"],
        ["mypy"],
    ]
    for step in (first[0], second[-1], *chain(*others)):
        assert step.command[:2] == ["coverage", "run"]
        # No path is named, so pytest takes all that `testpaths` knows.
        assert [word for word in step.command if word.startswith("tests/")] == []
    last = [step.command[-1] == "--browser" for step in (first[0], *chain(*others))]
    assert last == [False, False, True]
    assert everything.last(folder)[-1].command == ["coverage", "report"]


def test_the_fast_part_is_a_part_of_the_tests() -> None:
    for *_, tests in suite.plan(fast=True, recipe=None).work(Path("folder")):
        assert tests.command[-len(suite.FAST) :] == suite.FAST


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
    work = [names(hand) for hand in one.work(Path("folder"))]
    assert work == [["tests, hand 1"], ["lint", "format", "types"]]


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
        def work(self, _: Path) -> list[list[Step]]:
            return [
                [Step("one", script("print('first'); import no_such_module"))],
                [
                    Step("two", script("print('second'); raise SystemExit(3)")),
                    Step("three", script("print('third')")),
                ],
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


LATE = """
import pathlib, pytest
@pytest.mark.parametrize("n", range({count}))
def test_late(n):
    ran = pathlib.Path(f"ran{{n}}")
    again = ran.exists()
    ran.touch()
    assert again and not {broken}, "a clock was late"
def test_well():
    with open("well", "a") as file:
        file.write("tea")
"""


@pytest.mark.parametrize(
    ("count", "broken", "code", "runs"),
    [(1, False, 0, 2), (20, False, 0, 2), (1, True, 1, 2), (21, False, 1, 1)],
)
def test_what_fails_beside_others_is_run_once_more_alone_if_it_is_not_much(
    count: int,
    broken: bool,
    code: int,
    runs: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    class Small(Plan):
        def work(self, folder: Path) -> list[list[Step]]:
            return [[super().work(folder)[0][0]]]

    (tmp_path / "test_late.py").write_text(LATE.format(count=count, broken=broken))
    (tmp_path / "pytest.ini").write_text("[pytest]\ntimeout = 30\n", "utf-8")
    monkeypatch.setattr(suite, "ROOT", tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    small = Small(["test_late.py"], measured=False)
    monkeypatch.setattr(suite, "plan", lambda **_: small)
    assert suite.main([]) == code
    said = capfd.readouterr().out
    assert said.count("test session starts") == runs
    if runs == 2:
        named = [f"test_late.py::test_late[{n}]" for n in range(count)]
        assert "\n".join(["These failed beside others:", *named, ""]) in said
    assert (tmp_path / "well").read_text() == "tea", "what is well runs once"
    assert ("all is well, but some tests passed only alone" in said) == (code == 0)


def test_a_step_that_fails_otherwise_stays_failed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Small(Plan):
        def work(self, folder: Path) -> list[list[Step]]:
            # As if a test had failed, and beside it a type was wrong.
            (folder / "failed.1").write_text("test_late.py::test_well\n")
            return [[Step("types", script("raise SystemExit(1)"))]]

    (tmp_path / "test_late.py").write_text(LATE.format(count=0, broken=False))
    (tmp_path / "pytest.ini").write_text("[pytest]\ntimeout = 30\n", "utf-8")
    monkeypatch.setattr(suite, "ROOT", tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(suite, "plan", lambda **_: Small(measured=False))
    assert suite.main([]) == 1


def test_a_run_without_a_failure_gives_zero(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Small(Plan):
        def work(self, _: Path) -> list[list[Step]]:
            return [[Step("one", script("1"))]]

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
    # Each hand is at work before any has its second file.
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


PAGES = """
import pytest
@pytest.fixture
def chromium():
    pass
def test_in_a_browser(chromium):
    pass
def test_beside_it():
    pass
"""


def test_a_hand_for_the_browser_takes_its_files_whole_and_no_others(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (tmp_path / "test_pages.py").write_text(PAGES, "utf-8")
    (tmp_path / "test_servers.py").write_text("def test_it():\n    pass\n", "utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\ntimeout = 30\n", "utf-8")
    share = tmp_path_factory.mktemp("share")

    def hand(*options: str) -> str:
        shared = ["-p", "tests.kit.share", f"--share={share}"]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *shared, "-v", *options],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    # Without the other hand its files come last, also those of their tests that could
    # be the first.
    alone = hand(f"--share={tmp_path_factory.mktemp('another')}")
    names = re.findall(r"(test_\w+) PASSED", alone)
    assert names == ["test_it", "test_in_a_browser", "test_beside_it"]
    first, second = hand("--browser"), hand()
    assert "2 passed" in first
    assert "test_pages.py::test_in_a_browser PASSED" in first
    assert "1 passed" in second
    assert "test_servers.py::test_it PASSED" in second


def test_a_recipe_chooses_its_cases_and_no_other(tmp_path: Path) -> None:
    known = tmp_path / "known.json"
    chosen = [
        "tests/test_transcripts.py",
        "tests/test_scripts.py",
        "tests/test_shape.py",
        "tests/recipes/test_csv_export.py",
        "tests/recipes/test_sse_basic.py",
        "tests/pitfalls/csv_export",
        "tests/pitfalls/sse_basic",
    ]
    code = f"""
import json, pytest
class Note:
    def pytest_collection_finish(self, session):
        with open({str(known)!r}, "w") as file:
            json.dump([item.nodeid for item in session.items], file)
options = ["--collect-only", "-q", "--recipe", "sse_basic"]
pytest.main([*options, *{chosen}], plugins=[Note()])
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
    words = [word for step in chain(*Plan().work(tmp_path)) for word in step.command]
    assert any(str(tmp_path) in word for word in words)
    assert str(tmp_path) not in words
