"""Run the tests: `python -m tests`, or `python -m tests --fast` for the fast part.

Lint and types come first, then pytest, which measures the coverage of the recipes. With
CI=true a server or a browser that is missing is a failure and not a skip.
"""

import subprocess
import sys
import time

from rich.console import Console

LINT = {
    "lint": ["ruff", "check"],
    "format": ["ruff", "format", "--check"],
    "types": ["mypy"],
}
SUITE = ["coverage", "run", "-m", "pytest"]
FAST = [
    "tests/test_shape.py",
    "tests/test_scripts.py",
    "tests/recipes",
    "tests/pitfalls",
]


def main() -> int:
    """Run every step, also after one has failed; give the exit code."""
    fast = sys.argv[1:] == ["--fast"]
    steps = LINT | {"tests": [*SUITE, *(FAST if fast else [])]}
    steps["coverage of recipes"] = ["coverage", "report"]
    console = Console(highlight=False)
    failed = []
    for name, command in steps.items():
        console.rule(name, align="left")
        started = time.perf_counter()
        if subprocess.run([sys.executable, "-m", *command]).returncode:
            failed.append(name)
        console.print(f"[dim]{time.perf_counter() - started:.0f} s[/]")
    console.rule(f"failed: {', '.join(failed)}" if failed else "all is well")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
