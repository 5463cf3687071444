"""tests/kit/measured.py: coverage does not hold the first greenlet of a thread."""

import subprocess
import sys
from pathlib import Path

import pytest

from cookbook.catalog import ROOT

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
