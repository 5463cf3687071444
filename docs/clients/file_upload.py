"""Send a file of any size without holding it, and compare the hash."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import httpx2

URL = "http://127.0.0.1:8000/uploads"
SOURCE = Path("big.bin")

if not SOURCE.exists():  # Something to send: 50 MB.
    SOURCE.write_bytes(bytes(50_000_000))

digest = hashlib.sha256()


def pieces() -> Iterator[bytes]:
    """Read the file piece by piece, and hash each on its way."""
    size = 0
    with SOURCE.open("rb") as file:
        while piece := file.read(256 * 1024):
            digest.update(piece)
            size += len(piece)
            yield piece
            print(f"{size:,} bytes are sent", flush=True)


# With the length, the server can refuse what is too large before it comes.
headers = {"Content-Length": str(SOURCE.stat().st_size)}
response = httpx2.post(URL, content=pieces(), headers=headers, timeout=60)
response.raise_for_status()
stored = response.json()
if stored["sha256"] != digest.hexdigest():
    raise SystemExit("The server has stored something else")
print(f"stored {stored['size']:,} bytes as {stored['sha256']}")
