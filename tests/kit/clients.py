"""Run a client of `docs/clients` as a reader does, against a server of the test."""

import shutil
import subprocess
import sys
from pathlib import Path

from cookbook.catalog import ROOT
from tests.kit.servers import need

PRINTED = "http://127.0.0.1:8000"  # where every client looks for its recipe
WAIT = 20  # seconds; the SDKs take some of them for their imports


def copied(name: str, url: str, folder: Path) -> Path:
    """Copy a client into `folder`, with `url` in place of the address it prints.

    Raises:
        AssertionError: the client does not name that address.
    """
    source = (ROOT / "docs/clients" / name).read_text("utf-8")
    assert PRINTED in source, f"docs/clients/{name} does not ask {PRINTED}"
    target = folder / name
    target.write_text(source.replace(PRINTED, url), "utf-8")
    return target


def run(
    name: str, url: str, folder: Path, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run a Python client, or a `.mjs` client with Node, until it ends.

    It works in `folder`; what it writes and its exit code are in the result.
    """
    program = sys.executable
    if name.endswith(".mjs"):
        program = shutil.which("node") or need("node", "install Node.js 18 or newer")
    command = [program, str(copied(name, url, folder)), *arguments]
    return subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=WAIT,
    )
