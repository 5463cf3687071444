"""What the tests need from npm, installed once, outside the repository's files.

    modules = node.modules(ROOT / "tests/node")
    axe = modules / "axe-core/axe.min.js"

A folder with a `package.json` and its `package-lock.json` is copied to `.cache/`, and
`npm ci` installs there what the lock names. No package runs a script of its own.
"""

import shutil
import subprocess
from pathlib import Path

from cookbook.catalog import ROOT
from tests.kit.servers import need
from tests.kit.turns import turn

TOOLS = ROOT / "tests/node"  # what several tests use: axe-core, parsers, tsc
CACHE = ROOT / ".cache"


def modules(folder: Path = TOOLS, cache: Path = CACHE) -> Path:
    """Install what the lock in `folder` names, if need be; give `node_modules`.

    Without npm, or where it cannot install them, the test is skipped (with CI=true it
    fails).
    """
    target = cache / folder.name
    target.mkdir(parents=True, exist_ok=True)
    installed = target / "installed-lock.json"
    with turn(cache / f"{folder.name}.lock"):
        wanted = (folder / "package-lock.json").read_bytes()
        if not installed.exists() or installed.read_bytes() != wanted:
            installed.unlink(missing_ok=True)
            _install(folder, target)
            installed.write_bytes(wanted)
    return target / "node_modules"


def _install(folder: Path, target: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        need("npm", "install Node 20 or newer, which brings it")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(folder / name, target / name)
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=target, capture_output=True, text=True)
    if done.returncode:
        need("npm's packages", f"npm ci failed: {done.stderr.strip()[-300:]}")
