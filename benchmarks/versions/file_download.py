"""The same file by the ways that tutorials show, and without a framework."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import aiofiles
from fastapi import FastAPI
from fastapi.responses import FileResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from benchmarks.versions.file_samples import FOLDER, make_files

make_files()
os.environ["FILES_DIR"] = str(FOLDER)

from recipes.file_download import app as recipe  # noqa: E402 - FILES_DIR comes first

small_chunks = FastAPI()
file_response = FastAPI()
large_file_response = FastAPI()


async def read(path: Path) -> AsyncIterator[bytes]:
    """Read 8 KiB at a time."""
    async with aiofiles.open(path, "rb") as file:
        while chunk := await file.read(8192):
            yield chunk


@small_chunks.get("/files/{name}")
async def download(name: str) -> StreamingResponse:
    """As most tutorials do it."""
    return StreamingResponse(read(FOLDER / name))


@file_response.get("/files/{name}")
async def download_file(name: str) -> FileResponse:
    """As Starlette does it, 64 KiB at a time."""
    return FileResponse(FOLDER / name)


class LargeFileResponse(FileResponse):
    """Starlette's, with our size of a chunk."""

    chunk_size = 256 * 1024


@large_file_response.get("/files/{name}")
async def download_large(name: str) -> LargeFileResponse:
    """As Starlette does it, 256 KiB at a time."""
    return LargeFileResponse(FOLDER / name)


async def raw(scope: Scope, _: Receive, send: Send) -> None:
    """No framework, and no thread: the event loop reads the file."""
    if scope["type"] != "http":
        return
    path = FOLDER / Path(scope["path"]).name
    length = str(path.stat().st_size).encode()
    start = {"type": "http.response.start", "status": 200}
    await send({**start, "headers": [(b"content-length", length)]})
    with path.open("rb") as file:
        while chunk := file.read(256 * 1024):
            body = {"type": "http.response.body", "body": chunk, "more_body": True}
            await send(body)
    await send({"type": "http.response.body"})


__all__ = ["file_response", "large_file_response", "raw", "recipe", "small_chunks"]
