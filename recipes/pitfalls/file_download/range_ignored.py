"""Wrong: StreamingResponse knows no ranges, so a download cannot be resumed.

Run it:   uvicorn recipes.pitfalls.file_download.range_ignored:app
Try it:   curl -sS -i -H 'Range: bytes=1000-' http://127.0.0.1:8000/files/licence
          curl -sS -C 1000 http://127.0.0.1:8000/files/licence
See it:   Cannot resume
"""

# --8<-- [start:wrong]
from collections.abc import AsyncIterator

import aiofiles
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

app = FastAPI()
FILES = {"licence": "LICENSE"}


async def read(path: str) -> AsyncIterator[bytes]:
    """Read a file from its start."""
    async with aiofiles.open(path, "rb") as file:
        while True:
            chunk = await file.read(256 * 1024)
            if not chunk:
                return
            yield chunk


@app.get("/files/{name}")
async def download(name: str) -> StreamingResponse:
    """Send a file of this project."""
    return StreamingResponse(read(FILES[name]), media_type="text/plain")


# --8<-- [end:wrong]
