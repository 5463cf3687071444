"""Build the site as `make docs` does."""

import subprocess
import sys
from pathlib import Path


def mkdocs(tree: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Build the site of a tree strictly; what was said is in the result."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(site)]
    return subprocess.run(command, cwd=tree, capture_output=True, text=True)
