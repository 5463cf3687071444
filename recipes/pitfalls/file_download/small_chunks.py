"""Wrong: a file read 8 KiB at a time pays for a thread and a chunk with each of them.

Run it:   uvicorn recipes.pitfalls.file_download.small_chunks:app
Try it:   curl -sS --raw http://127.0.0.1:8000/files/page
See it:   2000
"""

# --8<-- [start:wrong]
from collections.abc import AsyncIterator

import aiofiles
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

app = FastAPI()
FILES = {"page": "docs/recipes/csv_export.md"}


async def read(path: str) -> AsyncIterator[bytes]:
    """Read a file in the chunks that most examples take."""
    async with aiofiles.open(path, "rb") as file:
        while True:
            chunk = await file.read(8192)
            if not chunk:
                return
            yield chunk


@app.get("/files/{name}")
async def download(name: str) -> StreamingResponse:
    """Send a file of this project."""
    return StreamingResponse(read(FILES[name]), media_type="text/plain")


# --8<-- [end:wrong]
