"""Wrong: a file that has its name from the start keeps it when only half has come.

Run it:   uvicorn recipes.pitfalls.file_upload.half_file_stays:app
Try it:   curl -sS --max-time 1 --limit-rate 64K -T requirements.lock \
              http://127.0.0.1:8000/uploads/7
          curl -sS http://127.0.0.1:8000/uploads
See it:   "7":
"""

# --8<-- [start:wrong]
import tempfile
from pathlib import Path

import aiofiles
from fastapi import FastAPI, Request

app = FastAPI()
FOLDER = Path(tempfile.mkdtemp())


@app.put("/uploads/{number}")
async def upload(number: int, request: Request) -> None:
    """Store the request's body."""
    async with aiofiles.open(FOLDER / str(number), "wb") as file:
        async for chunk in request.stream():
            await file.write(chunk)


@app.get("/uploads")
def uploads() -> dict[str, int]:
    """List what is stored, with its size in bytes."""
    return {path.name: path.stat().st_size for path in FOLDER.iterdir()}


# --8<-- [end:wrong]
