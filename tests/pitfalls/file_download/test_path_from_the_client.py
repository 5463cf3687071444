"""docs/pitfalls/bytes.md: Path traversal with a path parameter."""

from pathlib import Path

import pytest
from fastapi import FastAPI

from recipes import file_download
from recipes.pitfalls.file_download import path_from_the_client as wrong
from tests.kit.asgi import drive

BOTH = pytest.mark.parametrize(
    ("app", "right"), [(wrong.app, False), (file_download.app, True)]
)


@pytest.fixture
def secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a secret beside the folder that both serve, and a link to it inside."""
    folder = tmp_path / "files"
    folder.mkdir()
    monkeypatch.setenv("FILES_DIR", str(folder))
    monkeypatch.setattr(wrong, "FOLDER", folder)
    path = tmp_path / "secret.txt"
    path.write_bytes(b"secret")
    (folder / "link.txt").symlink_to(path)
    (folder / "tea.txt").write_bytes(b"tea")
    return path


@BOTH
@pytest.mark.parametrize("path", ["../secret.txt", "..%2Fsecret.txt", "link.txt"])
@pytest.mark.usefixtures("secret")
def test_dots_and_links_lead_out_of_the_folder(
    app: FastAPI, right: bool, path: str
) -> None:
    run = drive(app, f"/files/{path}")
    assert (run.body == b"secret") != right
    assert run.status == (404 if right else 200)


@BOTH
def test_so_does_an_absolute_path(app: FastAPI, right: bool, secret: Path) -> None:
    run = drive(app, f"/files/{secret}")
    assert (run.body == b"secret") != right


@BOTH
@pytest.mark.usefixtures("secret")
def test_both_send_what_they_should(app: FastAPI, right: bool) -> None:
    assert right in {True, False}
    assert drive(app, "/files/tea.txt").body == b"tea"
