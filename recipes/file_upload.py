# /// script
# requires-python = ">=3.11"
# dependencies = ["fastapi>=0.165", "uvicorn>=0.54"]
# ///
"""Store an upload of any size while it arrives, and answer with its hash.

Run it:   uvicorn recipes.file_upload:app
Try it:   curl -X POST -T LICENSE http://127.0.0.1:8000/uploads
"""

import asyncio
import hashlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Annotated

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

LIMIT = 10 * 1000**3  # bytes of one upload
RESERVE = 1000**3  # bytes of the disk that uploads leave free
SILENCE = 60.0  # seconds that a client may send nothing


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Path]]:
    """Choose the folder: the one that UPLOADS_DIR names, or one for this run only."""
    if named := os.environ.get("UPLOADS_DIR"):
        folder = Path(named)
        await run_in_threadpool(folder.mkdir, parents=True, exist_ok=True)
        yield {"folder": folder}
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield {"folder": Path(temporary)}


app = FastAPI(title="file_upload", lifespan=lifespan)


# --8<-- [start:batches]
BATCH = 256 * 1024  # bytes gathered before they are written


async def batches(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Gather chunks, which come as the network has cut them, into larger pieces.

    Raises HTTPException (408) if no chunk comes for `SILENCE` seconds.
    """
    batch = bytearray()
    while True:
        try:
            async with asyncio.timeout(SILENCE):
                chunk = await anext(chunks, b"")
        except TimeoutError:
            raise HTTPException(408, "Nothing has come for too long") from None
        batch += chunk
        if len(batch) >= BATCH or not chunk:
            yield bytes(batch)
            batch.clear()
        if not chunk:
            return


# --8<-- [end:batches]
# --8<-- [start:part]
class Stored(BaseModel):
    """What has been stored, under its hash as its name."""

    sha256: str
    size: int  # bytes


class Part:
    """A file that is not complete yet. All its methods block: call them in a thread."""

    def __init__(self, file: IO[bytes], folder: Path) -> None:
        self.file = file
        self.folder = folder
        self.digest = hashlib.sha256()
        self.size = 0

    def make_sure_of_room(self, size: int) -> None:
        """Refuse what would fill the disk; raises HTTPException (413)."""
        if shutil.disk_usage(self.folder).free - size < RESERVE:
            raise HTTPException(413, "There is no room for it on the disk")

    def write(self, batch: bytes) -> None:
        """Add a batch, if there is room for it."""
        self.make_sure_of_room(len(batch))
        self.file.write(batch)
        self.digest.update(batch)
        self.size += len(batch)

    def finish(self) -> Stored:
        """Give the file its name, once all of it is on the disk."""
        stored = Stored(sha256=self.digest.hexdigest(), size=self.size)
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        Path(self.file.name).replace(self.folder / stored.sha256)
        return stored


def open_part(request: Request) -> Iterator[Part]:
    """Open a file whose name ends in `.part`; whatever happens, none is left."""
    folder = request.state.folder
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".part", delete=False) as file:
        try:
            yield Part(file.file, folder)
        finally:
            Path(file.name).unlink(missing_ok=True)


# --8<-- [end:part]
# --8<-- [start:route]
@app.post("/uploads", status_code=201, max_body_size=LIMIT)
async def upload(request: Request, part: Annotated[Part, Depends(open_part)]) -> Stored:
    """Store the request's body; nothing of it is kept if it does not come whole."""
    announced = int(request.headers.get("content-length", "0"))
    await run_in_threadpool(part.make_sure_of_room, announced)
    async for batch in batches(request.stream()):
        await run_in_threadpool(part.write, batch)
    return await run_in_threadpool(part.finish)


@app.exception_handler(ClientDisconnect)
async def client_has_left(_: Request, __: Exception) -> Response:
    """End the request of a client that is gone without an error in the log."""
    return Response(status_code=499)  # Nobody gets it: the client is gone.


@app.get("/uploads")
def uploads(request: Request) -> dict[str, int]:
    """List all that is in the folder, with its size in bytes."""
    found = {}
    for path in sorted(request.state.folder.iterdir()):
        found[path.name] = path.stat().st_size
    return found


# --8<-- [end:route]
if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8000)
