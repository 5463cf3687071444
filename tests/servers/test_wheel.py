"""A wheel serves the site and every recipe, without the repository."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from cookbook import catalog, site
from cookbook.catalog import ROOT, recipes
from tests.kit import servers
from tests.kit.servers import free_port, serve

PARTS = ("cookbook", "recipes", "docs", "pyproject.toml", "README.md", "LICENSE")
pytestmark = pytest.mark.timeout(servers.START + 120)


def uv(*arguments: str | Path, cwd: Path) -> None:
    """Run uv; what it says is shown if it fails."""
    command = [sys.executable, "-m", "uv", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def installed(built_site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of the repository, and install it into a folder."""
    tree = tmp_path_factory.mktemp("tree")
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, tree / part)
    shutil.copytree(built_site, tree / "site")
    uv("build", "--wheel", "--no-build-isolation", "-o", tree / "dist", cwd=tree)
    (wheel,) = (tree / "dist").glob("*.whl")
    readme = (ROOT / "README.md").read_text("utf-8")
    assert f"`uvx --from ./{wheel.name} cookbook serve`" in readme
    target = tree / "installed"
    uv("pip", "install", "--no-deps", "--target", target, wheel, cwd=tree)
    return target


def test_it_serves_the_site_and_every_recipe(installed: Path, tmp_path: Path) -> None:
    port = free_port()
    argv = [sys.executable, "-m", "cookbook", "serve", "--port", str(port)]
    env = {"PYTHONPATH": str(installed)}
    env |= dict.fromkeys(
        ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL"), "http://127.0.0.1:9"
    )
    with serve(argv, port, cwd=tmp_path, env=env) as server:
        assert "The site is up to date" in server.expect("Ctrl+C stops it", 60)
        assert "Your first stream" in httpx2.get(server.url).text
        answer = httpx2.get(f"{server.url}/live/plain_text/async/1")
        assert answer.text.endswith("Ready to ship\n")
        index = httpx2.get(f"{server.url}/live/index.json").json()
    assert index["recipes"].keys() == {recipe.slug for recipe in recipes()}
    assert {one["problem"] for one in index["recipes"].values()} == {None}
    assert str(ROOT) not in server.output()
    assert list(tmp_path.iterdir()) == []  # Nothing is written where it was started.


def test_a_recipe_can_be_taken_home_from_it(installed: Path, tmp_path: Path) -> None:
    for slug in ("file_upload", "llm_chat"):
        command = [sys.executable, "-m", "cookbook", "take", slug, str(tmp_path / slug)]
        env = {**os.environ, "PYTHONPATH": str(installed)}
        done = subprocess.run(
            command, cwd=tmp_path, env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "file_upload/test_file_upload.py").exists()
    assert (tmp_path / "llm_chat/vendor/purify.min.js").exists()


def test_without_a_site_it_says_how_to_get_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(catalog, "CARRIED", True)
    monkeypatch.setattr(site, "ROOT", tmp_path)
    monkeypatch.setattr(site, "BUILT", tmp_path / "site")
    assert site.is_stale()
    assert not site.can_be_built()
    (tmp_path / "site").mkdir()
    assert not site.is_stale()
