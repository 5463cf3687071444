"""Run the tests: `python -m tests`, or `python -m tests --fast` for the fast part.

python -m tests                             everything
python -m tests --fast                      lint, types, shape, recipes, pitfalls
python -m tests --fast --recipe csv_export  all that belongs to one recipe

Much of the time is spent waiting for servers and browsers. So several *hands* work side
by side: each runs tests, and the second does lint and types first. They keep the cores
so busy that a clock can be late. So what fails beside others is run once more, alone,
if it is not much. Both runs are shown, and what passes alone has not failed.

Of all tests, or of those of one recipe, `tests.kit.measured` measures the coverage of
those that reach the recipes' lines. The fast part is not measured, which makes it
faster by half. With CI=true a server or a browser that is missing is a failure and not
a skip.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from threading import Event

from rich.console import Console

from tests.kit.share import FAILED

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
MUCH = 20  # tests of some 8,000; if more fail it is no accident
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
    tests_failed: bool = False  # and nothing else: pytest came to its end

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
        self.tests_failed = "pytest" in self.command and done.returncode == 1


@dataclass
class Plan:
    """What is checked: paths for each tool, where none are all that it knows."""

    tests: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)  # for pytest
    code: list[str] = field(default_factory=list)
    covered: list[str] = field(default_factory=list)  # options of the report
    hands: int = 2  # how many run tests; one more does lint and types if it is one
    browser: bool = False  # whether the last hand begins with the browser's tests
    measured: bool = True  # whether these tests reach every line of the recipes

    def work(self, folder: Path) -> list[list[Step]]:
        """Give the steps of each hand; `folder` is for the hands' own files."""
        checks = [
            Step("lint", ["ruff", "check", *self.code]),
            Step("format", ["ruff", "format", "--check", *self.code]),
            Step("types", ["mypy", *self.code]),
        ]
        first, *others = (
            [self._tests(f"hand {n + 1}", folder, folder, self.tests)]
            for n in range(self.hands)
        )
        if self.browser:
            others[-1][-1].command.append("--browser")
        second = others.pop(0) if others else []
        return [first, checks + second, *others]

    def last(self, folder: Path) -> list[Step]:
        """Give the steps that need what all hands have done."""
        if not self.measured:
            return []
        return [
            Step("coverage, put together", ["coverage", "combine", "-q", str(folder)]),
            Step("coverage of recipes", ["coverage", "report", *self.covered]),
        ]

    def alone(self, folder: Path, tests: list[str]) -> Step:
        """Give the step that runs some tests with nothing beside them."""
        (folder / "alone").mkdir()
        return self._tests("alone", folder, folder / "alone", tests)

    def _tests(self, who: str, folder: Path, share: Path, tests: list[str]) -> Step:
        # In one word: pytest would take a folder by itself for the root of the tests.
        shared = ["-p", "tests.kit.share", f"--share={share}"]
        command = ["pytest", *shared, *self.options, *tests]
        if self.measured:
            data = f"--data-file={folder}/.coverage.{who}"
            command = ["coverage", "run", data, "-m", *command]
        return Step(f"tests, {who}", command)


def plan(*, fast: bool, recipe: str | None) -> Plan:
    """Choose what is checked. Raises LookupError if there is no such recipe."""
    if recipe is None:
        few = ["--hypothesis-profile=fast"]
        if fast:  # These tests do not wait: more hands than cores would not help.
            return Plan(FAST, few, measured=False)
        return Plan(hands=4, browser=True)
    files = [room.format(recipe) for room in COLUMN]
    files = [file for file in files if (ROOT / file).exists()]
    if f"recipes/{recipe}.py" not in files:
        raise LookupError(f"there is no recipes/{recipe}.py")
    return Plan(
        tests=[*(file for file in files if file.startswith("tests/")), *EACH],
        options=["--recipe", recipe],
        code=files,
        covered=[f"--include=recipes/{recipe}.py,recipes/pitfalls/{recipe}/*"],
        hands=1,  # Another would spend all its time on imports.
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

    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor() as pool:
        folder = Path(name)
        first, *others = chosen.work(folder)
        last = chosen.last(folder)
        ends = [pool.submit(in_the_back, steps) for steps in others]
        try:
            in_front(first)
            for end in ends:
                end.result()
        finally:
            stopped.set()
        for step in chain(*others):
            show(step)
        steps = [*first, *chain(*others)]
        if names := few_failures(folder):
            console.print("These failed beside others:", *names, sep="\n")
            again = chosen.alone(folder, names)
            in_front([again])
            for step in steps:
                step.failed = step.failed and (again.failed or not step.tests_failed)
            steps.append(again)
        in_front(last)
    return [*steps, *last]


def few_failures(folder: Path) -> list[str]:
    """Name the tests that failed; none if they are too many for an accident."""
    files = sorted(folder.glob(f"{FAILED}*"))
    names = [name for file in files for name in file.read_text("utf-8").splitlines()]
    return names if len(names) <= MUCH else []


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
    steps = work(chosen)
    failed = [step.name for step in steps if step.failed]
    late = any(step.name == "tests, alone" for step in steps)
    well = "all is well, but some tests passed only alone" if late else "all is well"
    title = f"failed: {', '.join(failed)}" if failed else well
    Console(highlight=False).rule(title)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
