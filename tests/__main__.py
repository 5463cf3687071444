"""Run the tests: `python -m tests`, or `python -m tests --fast` for the fast part.

python -m tests                             everything
python -m tests --fast                      lint, types, shape, recipes, pitfalls
python -m tests --fast --recipe csv_export  all that belongs to one recipe

Much of the time is spent waiting for servers and browsers. So two *hands* work side by
side: the first runs tests; the second does lint and types, then helps with the tests.
All tests together, or those of one recipe, are measured: they reach every line of the
recipes. The fast part is not, which makes it faster by half. With CI=true a server or a
browser that is missing is a failure and not a skip.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from rich.console import Console

ROOT = Path(__file__).resolve().parents[1]
# Scripts come last: to run llm_durable as one registers its workflow a second time.
FAST = [
    "tests/test_shape.py",
    "tests/recipes",
    "tests/pitfalls",
    "tests/test_scripts.py",
]
# The files of one recipe; what a recipe does not have is left out.
COLUMN = [
    "recipes/{}.py",
    "recipes/pitfalls/{}",
    "tests/recipes/test_{}.py",
    "tests/pitfalls/{}",
    "tests/servers/test_{}.py",
    "docs/clients/{}.py",
    "benchmarks/bench_{}.py",
]
# The tests that have a case for each recipe.
EACH = ["tests/test_shape.py", "tests/test_scripts.py", "tests/test_transcripts.py"]


@dataclass
class Step:
    """A command, `python -m …`, what it is called, and what came of it."""

    name: str
    command: list[str]
    seconds: float = 0.0
    said: str = ""
    failed: bool = False

    def run(self, *, shown: bool) -> None:
        """Run it; what is not shown while it runs is kept in `said`."""
        started = time.perf_counter()
        output = None if shown else subprocess.PIPE
        done = subprocess.run(
            [sys.executable, "-m", *self.command],
            cwd=ROOT,
            stdout=output,
            stderr=None if shown else subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
        self.seconds = time.perf_counter() - started
        self.said = done.stdout or ""
        self.failed = done.returncode != 0


@dataclass
class Plan:
    """What is checked: paths for each tool, where none are all that it knows."""

    tests: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)  # for pytest
    code: list[str] = field(default_factory=list)
    covered: list[str] = field(default_factory=list)  # options of the report
    helps: bool = True  # whether the second hand helps with the tests
    measured: bool = True  # whether these tests reach every line of the recipes

    def first(self, folder: Path) -> list[Step]:
        """Give the steps of the first hand; `folder` is for the hands' own files."""
        return [self._tests(folder, 1)]

    def second(self, folder: Path) -> list[Step]:
        """Give the steps of the second hand."""
        return [
            Step("lint", ["ruff", "check", *self.code]),
            Step("format", ["ruff", "format", "--check", *self.code]),
            Step("types", ["mypy", *self.code]),
            *([self._tests(folder, 2)] if self.helps else []),
        ]

    def last(self, folder: Path) -> list[Step]:
        """Give the steps that need what both hands have done."""
        if not self.measured:
            return []
        return [
            Step("coverage, put together", ["coverage", "combine", "-q", str(folder)]),
            Step("coverage of recipes", ["coverage", "report", *self.covered]),
        ]

    def _tests(self, folder: Path, hand: int) -> Step:
        # In one word: pytest would take a folder by itself for the root of the tests.
        shared = ["-p", "tests.kit.share", f"--share={folder}"]
        command = ["pytest", *shared, *self.options, *self.tests]
        if self.measured:
            data = f"--data-file={folder}/.coverage.{hand}"
            command = ["coverage", "run", data, "-m", *command]
        return Step(f"tests, hand {hand}", command)


def plan(*, fast: bool, recipe: str | None) -> Plan:
    """Choose what is checked. Raises LookupError if there is no such recipe."""
    if recipe is None:
        few = ["--hypothesis-profile=fast"]
        return Plan(FAST, few, measured=False) if fast else Plan([])
    files = [room.format(recipe) for room in COLUMN]
    files = [file for file in files if (ROOT / file).exists()]
    if f"recipes/{recipe}.py" not in files:
        raise LookupError(f"there is no recipes/{recipe}.py")
    return Plan(
        tests=[*(file for file in files if file.startswith("tests/")), *EACH],
        options=["--recipe", recipe],
        code=files,
        covered=[f"--include=recipes/{recipe}.py,recipes/pitfalls/{recipe}/*"],
        helps=False,  # It would spend all its time on imports.
    )


def work(chosen: Plan) -> list[Step]:
    """Run every step, also after one has failed, and show each; give them all."""
    console = Console(highlight=False)
    stopped = Event()

    def show(step: Step) -> None:
        console.rule(step.name, align="left")
        sys.stdout.write(step.said)
        sys.stdout.flush()
        console.print(f"[dim]{step.seconds:.0f} s[/]")

    def in_the_back(steps: list[Step]) -> None:
        for step in steps:
            if not stopped.is_set():
                step.run(shown=False)

    def in_front(steps: list[Step]) -> None:
        for step in steps:
            console.rule(step.name, align="left")
            step.run(shown=True)
            console.print(f"[dim]{step.seconds:.0f} s[/]")

    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(1) as pool:
        folder = Path(name)
        first, second = chosen.first(folder), chosen.second(folder)
        last = chosen.last(folder)
        other = pool.submit(in_the_back, second)
        try:
            in_front(first)
            other.result()
        finally:
            stopped.set()
        for step in second:
            show(step)
        in_front(last)
    return [*first, *second, *last]


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line asks for; give the exit code."""
    parser = argparse.ArgumentParser("python -m tests")
    parser.add_argument("--fast", action="store_true", help="the part of two minutes")
    parser.add_argument("--recipe", metavar="SLUG", help="only what belongs to it")
    options = parser.parse_args(arguments)
    try:
        chosen = plan(fast=options.fast, recipe=options.recipe)
    except LookupError as error:
        parser.error(str(error))
    failed = [step.name for step in work(chosen) if step.failed]
    title = f"failed: {', '.join(failed)}" if failed else "all is well"
    Console(highlight=False).rule(title)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
