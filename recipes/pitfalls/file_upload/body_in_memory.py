"""Wrong: `await request.body()` takes all of it into memory before it can refuse it.

Run it:   uvicorn recipes.pitfalls.file_upload.body_in_memory:app
Try it:   curl -sS -X POST -T requirements.lock http://127.0.0.1:8000/uploads
See it:   bytes are too many
"""

# --8<-- [start:wrong]
import hashlib
import tempfile
from pathlib import Path

from fastapi import FastAPI, HTTPException, Request

app = FastAPI()
FOLDER = Path(tempfile.mkdtemp())
LIMIT = 100_000  # bytes


@app.post("/uploads", status_code=201)
async def upload(request: Request) -> dict[str, str]:
    """Store the request's body."""
    body = await request.body()
    if len(body) > LIMIT:
        raise HTTPException(413, f"{len(body):,} bytes are too many")
    name = hashlib.sha256(body).hexdigest()
    (FOLDER / name).write_bytes(body)
    return {"sha256": name}


# --8<-- [end:wrong]
