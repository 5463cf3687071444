"""Save an export without ever holding it whole."""

from pathlib import Path

import httpx2

URL = "http://127.0.0.1:8000/orders.csv?rows=5000"
TARGET = Path("orders.csv")

# The export gets its name when it is complete; one that breaks off stays a `.part`.
part = TARGET.with_suffix(".csv.part")
size = 0
with httpx2.stream("GET", URL) as response:
    response.raise_for_status()
    with part.open("wb") as file:
        for piece in response.iter_bytes():
            size += file.write(piece)
            print(f"{size:,} bytes", flush=True)
part.replace(TARGET)
print(f"saved as {TARGET}")
