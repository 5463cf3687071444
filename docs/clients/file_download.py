"""Download a file; after a break, start it again and it goes on where it stopped."""

from pathlib import Path

import httpx2

URL = "http://127.0.0.1:8000/files/orders.txt"
TARGET = Path("orders.txt")

part = Path(f"{TARGET}.part")  # what has come so far
tag = Path(f"{TARGET}.etag")  # which version of the file that is
headers = {}
if part.exists() and tag.exists():
    headers["Range"] = f"bytes={part.stat().st_size}-"
    headers["If-Range"] = tag.read_text("ascii").strip()

with httpx2.stream("GET", URL, headers=headers) as response:
    response.raise_for_status()
    if response.status_code == 206:
        print(f"going on after {part.stat().st_size:,} bytes")
        file = part.open("ab")
    else:  # 200: it is the first time, or the file is not the same any more.
        print("beginning at the start")
        file = part.open("wb")
    tag.write_text(response.headers["ETag"], "ascii")
    with file:
        for piece in response.iter_bytes():
            file.write(piece)
            print(f"{file.tell():,} bytes", flush=True)
part.replace(TARGET)
tag.unlink()
print(f"saved as {TARGET}")
