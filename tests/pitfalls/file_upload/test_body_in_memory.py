"""docs/pitfalls/bytes.md: A large upload fills the memory of FastAPI."""

import asyncio
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.types import Message, Scope

from recipes import file_upload
from recipes.pitfalls.file_upload import body_in_memory as wrong

MB = 1_000_000
CHUNK = 50_000  # bytes
APPS = [(wrong.app, False), (file_upload.app, True)]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPLOADS_DIR", str(tmp_path))
    monkeypatch.setattr(wrong, "FOLDER", tmp_path)


def send_chunks(app: FastAPI, folder: Path, size: int) -> int:
    """Send so many bytes in small chunks, as a server does; give the status."""
    left = size
    answers: list[Message] = []

    async def receive() -> Message:
        nonlocal left
        left -= CHUNK
        return {"type": "http.request", "body": bytes(CHUNK), "more_body": left > 0}

    async def send(message: Message) -> None:
        answers.append(message)

    scope: Scope = {"type": "http", "method": "POST", "path": "/uploads"}
    scope.update(query_string=b"", headers=[], state={"folder": folder})
    asyncio.run(app(scope, receive, send))
    return int(answers[0]["status"])


def peak(app: FastAPI, folder: Path, size: int) -> int:
    """Give the most memory that an upload takes, in bytes."""
    send_chunks(app, folder, CHUNK)  # What a first request alone needs.
    tracemalloc.start()
    try:
        assert send_chunks(app, folder, size) == 201
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("app", "right"), APPS)
def test_memory_grows_with_the_upload(
    app: FastAPI, right: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wrong, "LIMIT", 100 * MB)
    assert (peak(app, tmp_path, 10 * MB) < 2 * MB) == right


@pytest.mark.parametrize(("app", "right"), APPS)
def test_what_is_too_large_is_read_before_it_is_refused(
    app: FastAPI, right: bool
) -> None:
    sent = 0

    def chunks() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(20):
            sent += 10_000
            yield bytes(10_000)

    limit = file_upload.LIMIT + 1 if right else 200_000
    with TestClient(app) as client:
        headers = {"Content-Length": str(limit)}
        response = client.post("/uploads", content=chunks(), headers=headers)
    assert response.status_code == 413
    assert (sent == 0) == right
