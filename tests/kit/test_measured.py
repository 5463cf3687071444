"""tests/kit/measured.py: coverage does not hold the first greenlet of a thread."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import coverage
import pytest

from cookbook.catalog import ROOT
from tests.kit import measured

SHOW = """
import threading, weakref
import greenlet
from tests.kit import measured

{install}

def show():
    print(weakref.getweakrefcount(greenlet.getcurrent()))
    inner = greenlet.greenlet(lambda: print(weakref.getweakrefcount(inner)))
    inner.switch()

thread = threading.Thread(target=show)
thread.start()
thread.join()
"""


def test_only_the_tests_that_are_needed_are_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine = coverage.Coverage(data_file=None)
    monkeypatch.setattr(measured, "_measuring", mine)
    current = iter([mine, mine, None, None])  # whether it runs
    monkeypatch.setattr(coverage.Coverage, "current", lambda: next(current))
    steps: list[str] = []
    for name in ("start", "stop"):
        monkeypatch.setattr(mine, name, partial(steps.append, name))
    measured.measure(Path("tests/recipes/test_csv_export.py"))
    measured.measure(Path("tests/browser/test_search.py"))
    measured.measure(Path("tests/browser/test_search.py"))
    measured.measure(Path("tests/servers/test_sse_resumable.py"))
    assert steps == ["stop", "start"]
    for path in measured.NEEDED:
        assert (ROOT / path).exists()


@pytest.mark.parametrize(
    ("install", "references"), [("", ["1", "1"]), ("measured.install()", ["0", "1"])]
)
def test_only_greenlets_of_ones_own_are_held_weakly(
    tmp_path: Path, install: str, references: list[str]
) -> None:
    script = tmp_path / "show.py"
    script.write_text(SHOW.format(install=install), "utf-8")
    options = [f"--rcfile={ROOT}/pyproject.toml", f"--data-file={tmp_path}/data"]
    done = subprocess.run(
        [sys.executable, "-m", "coverage", "run", *options, script],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        encoding="utf-8",
    )
    assert done.stdout.split() == references, done.stderr
