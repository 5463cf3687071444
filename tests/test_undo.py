"""What a "Break it" has changed is undone as the page says."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cookbook.catalog import ROOT
from tests.kit.servers import need
from tests.kit.tie import UNDO

PAGES = sorted((ROOT / "docs/recipes").glob("*.md"))
TOLD = re.compile(rf"^ *({UNDO}(\S+))$", re.MULTILINE)
FOUND = sorted({found for page in PAGES for found in TOLD.findall(page.read_text())})


def git(folder: Path, *arguments: str) -> None:
    """Run git in a folder, without the settings of who runs the tests."""
    program = shutil.which("git") or need("git", "apt-get install git")
    someone = ["-c", "user.name=A Reader", "-c", "user.email=reader@shop.example"]
    subprocess.run([program, *someone, *arguments], cwd=folder, check=True, timeout=20)


@pytest.mark.parametrize("slug", ["csv_export", "plain_text"])
def test_a_page_says_how_to_undo_its_change(slug: str) -> None:
    assert (f"{UNDO}{slug}.py", f"{slug}.py") in FOUND


@pytest.mark.parametrize(("command", "name"), FOUND, ids=[name for _, name in FOUND])
def test_in_a_clone_git_gives_the_recipe_back(
    command: str, name: str, tmp_path: Path
) -> None:
    (tmp_path / "recipes").mkdir()
    recipe = Path(shutil.copy(ROOT / "recipes" / name, tmp_path / "recipes"))
    whole = recipe.read_bytes()
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "recipes")
    git(tmp_path, "commit", "-q", "--no-gpg-sign", "-m", "Start")
    recipe.write_bytes(whole[:100])
    git(tmp_path, *command.split()[1:])
    assert recipe.read_bytes() == whole
