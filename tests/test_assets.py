"""The types that the scripts of the site declare hold."""

import shutil
import subprocess
from pathlib import Path

import pytest

from cookbook.catalog import ROOT
from tests.kit import node

ASSETS = ROOT / "docs/assets"


def tsc(folder: Path) -> str:
    """Give what TypeScript says of the scripts in a folder; nothing if all is well."""
    command = [str(node.modules() / ".bin/tsc"), "-p", str(folder / "jsconfig.json")]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout + done.stderr


@pytest.mark.timeout(120)  # seconds; npm may have to install TypeScript first
def test_no_script_contradicts_its_types(tmp_path: Path) -> None:
    assert tsc(ASSETS) == ""
    wrong = shutil.copytree(ASSETS, tmp_path / "assets")
    text = (ASSETS / "sse.js").read_text("utf-8")
    text = text.replace("@param {Uint8Array} bytes", "@param {number} bytes")
    (wrong / "sse.js").write_text(text, "utf-8")
    assert "error TS" in tsc(wrong)
