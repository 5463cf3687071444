"""Wrong: a path that the client writes leads to any file of the machine.

Run it:   uvicorn recipes.pitfalls.file_download.path_from_the_client:app
Try it:   curl -sS http://127.0.0.1:8000/files/csv_export.txt
          curl -sS http://127.0.0.1:8000/files/..%2F..%2Fpyproject.toml
See it:   name = "streaming-cookbook"
"""

# --8<-- [start:wrong]
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse

app = FastAPI()
FOLDER = Path("docs/transcripts")


@app.get("/files/{path:path}")
async def download(path: str) -> FileResponse:
    """Send a file of the folder."""
    return FileResponse(FOLDER / path)


# --8<-- [end:wrong]
