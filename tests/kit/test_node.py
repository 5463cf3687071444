"""What npm installs is what a lock names, and it is installed once."""

import subprocess
from pathlib import Path

import pytest

from tests.kit import node

pytestmark = pytest.mark.timeout(120)  # seconds; npm asks its registry


def test_the_tools_are_there() -> None:
    modules = node.modules()
    for name in ("axe-core", "eventsource", "eventsource-parser", "typescript"):
        assert (modules / name / "package.json").is_file()


def test_they_are_installed_again_only_for_another_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tools"
    folder.mkdir()
    (folder / "package.json").write_text("{}", "utf-8")
    (folder / "package-lock.json").write_text("{}", "utf-8")
    asked: list[list[str]] = []

    def npm(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(command[1:3])
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(
        node, "subprocess", type("Fake", (), {"run": staticmethod(npm)})
    )
    node.modules(folder, tmp_path / "cache")
    node.modules(folder, tmp_path / "cache")
    assert asked == [["ci", "--ignore-scripts"]]
    (folder / "package-lock.json").write_text('{"new": true}', "utf-8")
    node.modules(folder, tmp_path / "cache")
    assert len(asked) == 2
