"""docs/pitfalls/bytes.md: HTTP server doesn't seem to support byte ranges."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from recipes import file_download
from recipes.pitfalls.file_download import range_ignored as wrong

TEXT = b"green tea, black tea"
APPS = [("wrong", False), ("right", True)]


@pytest.fixture
def clients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, TestClient]]:
    """Let both send the same file."""
    path = tmp_path / "licence"
    path.write_bytes(TEXT)
    monkeypatch.setenv("FILES_DIR", str(tmp_path))
    monkeypatch.setitem(wrong.FILES, "licence", str(path))
    with TestClient(wrong.app) as first, TestClient(file_download.app) as second:
        yield {"wrong": first, "right": second}


@pytest.mark.parametrize(("name", "right"), APPS)
def test_who_appends_what_comes_gets_a_corrupt_file(
    clients: dict[str, TestClient], name: str, right: bool
) -> None:
    # A client that does not check the status, as many scripts do not.
    have = TEXT[:7]
    headers = {"Range": f"bytes={len(have)}-"}
    have += clients[name].get("/files/licence", headers=headers).content
    assert (have == TEXT) == right


@pytest.mark.parametrize(("name", "right"), APPS)
def test_nothing_says_which_version_of_the_file_this_is(
    clients: dict[str, TestClient], name: str, right: bool
) -> None:
    response = clients[name].get("/files/licence", headers={"Range": "bytes=7-"})
    assert response.status_code == (206 if right else 200)
    for field in ("etag", "last-modified", "accept-ranges", "content-length"):
        assert (field in response.headers) == right


@pytest.mark.parametrize(("name", "right"), APPS)
def test_head_is_refused(
    clients: dict[str, TestClient], name: str, right: bool
) -> None:
    response = clients[name].head("/files/licence")
    assert response.status_code == (200 if right else 405)
