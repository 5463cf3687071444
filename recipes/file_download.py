# /// script
# requires-python = ">=3.11"
# dependencies = ["aiofiles>=25.1", "fastapi>=0.165", "uvicorn>=0.54"]
#
# [tool.cookbook]
# application = true
# ///
"""Send large files, whole or in ranges, so that a download can be resumed.

Run it:   uvicorn recipes.file_download:app
Try it:   curl -i -H 'Range: bytes=640-767' http://127.0.0.1:8000/files/orders.txt
          curl http://127.0.0.1:8000/files
"""

import os
import re
import secrets
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC
from email.utils import formatdate, parsedate_to_datetime
from mimetypes import guess_type
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import aiofiles
import uvicorn
from aiofiles.threadpool.binary import AsyncBufferedReader
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse


def make_samples(folder: Path) -> None:
    """Write a large file and a small one, which are the same in every run."""
    line = b"order %9d is packed, and the parcel is on its way to you.\n"
    with (folder / "orders.txt").open("wb") as orders:
        for number in range(524_288):  # of 64 bytes each: 32 MiB
            orders.write(line % number)
    (folder / "Größen.txt").write_text("tea: 50 g, 100 g, 1 kg\n", "utf-8")
    for path in folder.iterdir():
        os.utime(path, (1_767_258_000, 1_767_258_000))  # 2026-01-01, 9:00 UTC


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Path]]:
    """Choose the folder: the one that FILES_DIR names, or samples for this run."""
    if folder := os.environ.get("FILES_DIR"):
        yield {"folder": Path(folder)}
        return
    with tempfile.TemporaryDirectory() as samples:
        make_samples(Path(samples))
        yield {"folder": Path(samples)}


# --8<-- [start:catalogue]
app = FastAPI(title="file_download", lifespan=lifespan)
UNFIT = re.compile("^[.]|[\0-\x1f\x7f\ud800-\udfff]")  # hidden, or not to be written


@app.get("/files")
def catalogue(request: Request) -> dict[str, int]:
    """List the files that may be sent, by name, with their sizes in bytes.

    Folders, links and devices are left out.
    """
    found = {}
    with os.scandir(request.state.folder) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False) and not UNFIT.search(entry.name):
                found[entry.name] = entry.stat().st_size
    return found


async def open_file(name: str, request: Request) -> AsyncIterator[AsyncBufferedReader]:
    """Open a file of the catalogue; close it with the response, complete or not."""
    if name not in await run_in_threadpool(catalogue, request):
        raise HTTPException(404, "There is no such file")
    async with aiofiles.open(request.state.folder / name, "rb") as file:
        yield file


# --8<-- [end:catalogue]
# --8<-- [start:conditions]
def seconds(date: str) -> float:
    """Read one of HTTP's dates, in seconds since 1970; not a number if it is none."""
    try:
        return parsedate_to_datetime(date).replace(tzinfo=UTC).timestamp()
    except (ValueError, OverflowError):
        return float("nan")  # Every comparison with it is false.


def condition(asked: Mapping[str, str], etag: str, modified: str) -> int:
    """Weigh the conditions of a request: 200, 304 or 412 (RFC 9110, 13.2.2)."""
    if tags := asked.get("if-match"):
        if tags != "*" and etag not in re.split("[ ,]+", tags):
            return 412
    elif seconds(modified) > seconds(asked.get("if-unmodified-since", "")):
        return 412
    if tags := asked.get("if-none-match"):
        if tags == "*" or etag in tags:
            return 304
    elif seconds(modified) <= seconds(asked.get("if-modified-since", "")):
        return 304
    return 200


# --8<-- [end:conditions]
# --8<-- [start:ranges]
Piece = bytes | range  # some bytes as they are, or a range of the file
MAX_RANGES = 10  # in one request
RANGE = re.compile("([0-9]{0,18})-([0-9]{0,18})")


def ranges(field: str, size: int) -> list[range] | None:
    """Read a Range field; None if it is to be ignored (RFC 9110, 14.2).

    What lies behind the end of the file is left out: an empty list is a 416.
    """
    unit, _, wanted = field.partition("=")
    items = wanted.split(",")
    if unit.lower() != "bytes" or len(items) > MAX_RANGES:
        return None
    found = []
    for item in items:
        match = RANGE.fullmatch(item.strip())
        if not match or match[0] == "-":
            return None
        if not match[1]:  # the last bytes
            part = range(max(size - int(match[2]), 0), size)
        elif not match[2]:  # all from here
            part = range(int(match[1]), size)
        elif int(match[1]) <= int(match[2]):
            part = range(int(match[1]), min(int(match[2]) + 1, size))
        else:
            return None
        if part:
            found.append(part)
    if sum(map(len, found)) > size:
        return None  # Together longer than the file: all of it is less work.
    return found


def content_range(part: range, size: int) -> str:
    """Say which bytes of how many a range holds (RFC 9110, 14.4)."""
    return f"bytes {part.start}-{part.stop - 1}/{size}"


def multipart(parts: list[range], size: int, kind: str, mark: str) -> list[Piece]:
    """Put several ranges into one body, each with a head (RFC 9110, 14.6)."""
    pieces: list[Piece] = []
    for part in parts:
        head = f"\r\n--{mark}\r\nContent-Type: {kind}\r\n"
        head += f"Content-Range: {content_range(part, size)}\r\n\r\n"
        pieces += [head.encode(), part]
    return [*pieces, f"\r\n--{mark}--\r\n".encode()]


# --8<-- [end:ranges]
# --8<-- [start:producer]
CHUNK = 256 * 1024  # bytes read at a time


def etag_of(status: os.stat_result) -> str:
    """Name the version of a file by when it was written, in ns, and by its size."""
    return f'"{status.st_mtime_ns:x}-{status.st_size:x}"'


async def read(
    file: AsyncBufferedReader, pieces: list[Piece], etag: str
) -> AsyncIterator[bytes]:
    """Give the pieces, with the file's bytes in chunks in place of each range.

    Raises OSError if the file is no longer the version that `etag` names, so
    that no client takes half of one and half of another for the whole.
    """
    for piece in pieces:
        if isinstance(piece, bytes):
            yield piece
            continue
        await file.seek(piece.start)
        left = len(piece)
        while left:
            chunk = await file.read(min(CHUNK, left))
            if not chunk or etag_of(os.fstat(file.fileno())) != etag:
                raise OSError("the file has changed while it was being sent")
            left -= len(chunk)
            yield chunk


# --8<-- [end:producer]
def media_type(name: str) -> str:
    """Guess a file's type by its name; a compressed one is what it is, not its text."""
    guessed, compression = guess_type(name)
    if guessed is None or compression:
        return "application/octet-stream"
    return guessed


def attachment(name: str) -> str:
    """Say that a file is to be saved, and under which name (RFC 6266)."""
    plain = re.sub(r'[^ -~]|["%\\]', "_", name)  # for old clients
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


# --8<-- [start:route]
@app.head("/files/{name}")
@app.get("/files/{name}")
async def download(
    name: str,
    request: Request,
    file: Annotated[AsyncBufferedReader, Depends(open_file)],
) -> Response:
    """Send a file, or those ranges of it that the client asks for."""
    found = os.fstat(file.fileno())  # of what is open, whatever the name means by now
    size = found.st_size
    etag = etag_of(found)
    modified = formatdate(found.st_mtime, usegmt=True)
    headers = {
        "Accept-Ranges": "bytes",
        "Cache-Control": "no-cache",  # Keep it, but ask whether it is still the same.
        "Content-Disposition": attachment(name),
        "ETag": etag,
        "Last-Modified": modified,
    }
    status = condition(request.headers, etag, modified)
    if status != 200:
        return Response(None, status, headers)
    wanted = None
    same = request.headers.get("if-range", etag) in (etag, modified)
    if same and request.method == "GET":
        wanted = ranges(request.headers.get("range", ""), size)
    kind = media_type(name)
    pieces: list[Piece]
    if wanted is None:
        pieces = [range(size)]
    elif not wanted:
        headers["Content-Range"] = f"bytes */{size}"
        return Response(None, 416, headers)
    elif len(wanted) == 1:
        status = 206
        pieces = [wanted[0]]
        headers["Content-Range"] = content_range(wanted[0], size)
    else:
        status = 206
        mark = secrets.token_hex(16)
        pieces = multipart(wanted, size, kind, mark)
        kind = f"multipart/byteranges; boundary={mark}"
    headers["Content-Type"] = kind
    headers["Content-Length"] = str(sum(map(len, pieces)))
    if request.method == "HEAD":
        return Response(None, status, headers)
    return StreamingResponse(read(file, pieces, etag), status, headers)


# --8<-- [end:route]
if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8000)
