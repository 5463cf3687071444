"""docs/pitfalls/bytes.md: A failed upload leaves half a file."""

import asyncio
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.requests import ClientDisconnect
from starlette.types import Message, Scope

from recipes import file_upload
from recipes.pitfalls.file_upload import half_file_stays as wrong

APPS = [
    (wrong.app, "PUT", "/uploads/7", ["7"]),
    (file_upload.app, "POST", "/uploads", []),
]


@pytest.mark.parametrize(("app", "method", "path", "left"), APPS)
def test_a_client_that_leaves_leaves_half_a_file(
    app: FastAPI,
    method: str,
    path: str,
    left: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wrong, "FOLDER", tmp_path)
    half: Message = {"type": "http.request", "body": b"half of it", "more_body": True}
    gone: Message = {"type": "http.disconnect"}
    messages = iter([half, gone])

    async def receive() -> Message:
        return next(messages)

    async def send(_: Message) -> None: ...

    scope: Scope = {"type": "http", "method": method, "path": path}
    scope.update(query_string=b"", headers=[], state={"folder": tmp_path})
    try:
        asyncio.run(app(scope, receive, send))
    except ClientDisconnect:
        assert left, "only the wrong one has an error for the log"
    assert [file.name for file in tmp_path.iterdir()] == left
    assert list(wrong.uploads()) == left
