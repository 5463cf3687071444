"""Download a large file with a progress bar, over as many connections as that takes.

Needs httpx2 and rich (pip install httpx2 rich), and the recipe running on port 8000.
Start it again after Ctrl+C, and it goes on where it stopped.
"""

import sys
import time
from pathlib import Path

import httpx2
from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

URL = "http://127.0.0.1:8000/files/orders.txt"
TARGET = Path("orders.txt")
TRIES = 5  # connections in a row that bring nothing
PAUSE = 1.0  # seconds before the next one; doubled after each that brings nothing

part = Path(f"{TARGET}.part")  # what has come so far
tag = Path(f"{TARGET}.etag")  # which version of the file that is


def size_of_part() -> int:
    """Say how many bytes are here."""
    return part.stat().st_size if part.exists() else 0


def what_is_missing() -> dict[str, str]:
    """Ask for all, or for the rest if the file is still the version we have."""
    # The bytes of a compressed answer are not those of the file.
    headers = {"Accept-Encoding": "identity"}
    if part.exists() and tag.exists():
        headers["Range"] = f"bytes={size_of_part()}-"
        headers["If-Range"] = tag.read_text("ascii").strip()
    return headers


def begin(response: httpx2.Response) -> int:
    """Note which version is coming; give the place in the file where it begins."""
    if response.status_code == 206:
        size = size_of_part()
        begins = response.headers["Content-Range"]
        if not begins.startswith(f"bytes {size}-"):
            sys.exit(f"The server sent another part than the one asked for: {begins}")
        return size
    # 200: it is the first time, or the file is not the same any more.
    part.write_bytes(b"")
    etag = response.headers.get("ETag", "W/")
    if etag.startswith("W/"):  # A weak one may be the same for other bytes.
        tag.unlink(missing_ok=True)
    else:
        tag.write_text(etag, "ascii")
    return 0


def receive(client: httpx2.Client, progress: Progress) -> None:
    """Add what one connection brings; raise TransportError if it breaks."""
    with client.stream("GET", URL, headers=what_is_missing()) as response:
        if response.status_code == 416:  # There is nothing after what we have.
            if response.headers["Content-Range"] != f"bytes */{size_of_part()}":
                tag.unlink()  # The next connection begins at the start.
                raise httpx2.ReadError("The file has become shorter.")
            return
        response.raise_for_status()
        place = begin(response)
        if place:
            progress.console.print(f"going on after {place:,} bytes")
        length = response.headers.get("Content-Length")
        total = place + int(length) if length else None
        progress.update(progress.task_ids[0], completed=place, total=total)
        with part.open("ab") as file:
            for piece in response.iter_bytes():
                file.write(piece)
                progress.update(progress.task_ids[0], advance=len(piece))


columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn())
tries = TRIES
with httpx2.Client() as client, Progress(*columns) as progress:
    progress.add_task(TARGET.name, total=None)
    while True:
        before = size_of_part()
        try:
            receive(client, progress)
            break
        except httpx2.TransportError as error:
            tries = TRIES if size_of_part() > before else tries - 1
            if not tries:
                sys.exit(f"Not complete, start it again later: {error}")
            progress.console.print(f"{size_of_part():,} bytes, then: {error}")
            time.sleep(PAUSE * 2 ** (TRIES - tries))
part.replace(TARGET)
tag.unlink(missing_ok=True)
print(f"saved as {TARGET}")
