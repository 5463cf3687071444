"""docs/pitfalls/bytes.md: FastAPI file download is slow."""

from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from recipes import file_download
from recipes.pitfalls.file_download import small_chunks as wrong
from tests.kit.asgi import drive

MEBIBYTE = 1024 * 1024


@pytest.mark.parametrize(("app", "chunks"), [(wrong.app, 128), (file_download.app, 4)])
def test_a_mebibyte_comes_in_many_small_chunks(
    app: FastAPI, chunks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "page"
    path.write_bytes(bytes(MEBIBYTE))
    monkeypatch.setenv("FILES_DIR", str(tmp_path))
    monkeypatch.setitem(wrong.FILES, "page", str(path))
    run = drive(app, "/files/page")
    assert len(run.chunks) == chunks
    assert len(run.body) == MEBIBYTE


@pytest.mark.parametrize(
    ("app", "right"), [(wrong.app, False), (file_download.app, True)]
)
def test_no_length_tells_the_client_how_much_will_come(
    app: FastAPI, right: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "page"
    path.write_bytes(b"tea")
    monkeypatch.setenv("FILES_DIR", str(tmp_path))
    monkeypatch.setitem(wrong.FILES, "page", str(path))
    with TestClient(app) as client:
        assert ("content-length" in client.get("/files/page").headers) == right
