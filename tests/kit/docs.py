"""Build the site as `make docs` does, and write tables for its pages."""

import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path


def mkdocs(tree: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Build the site of a tree strictly; what was said is in the result."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(site)]
    return subprocess.run(command, cwd=tree, capture_output=True, text=True)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table of Markdown; every cell is text."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
