"""Print orders as they arrive, and say at the end whether all of them came.

Needs httpx2 (pip install httpx2), and the recipe running on port 8000.
"""

import json
import sys
from collections.abc import Iterator

import httpx2

URL = "http://127.0.0.1:8000/database?limit=5000"


def lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Cut chunks into lines at line feeds alone; a line may begin in one chunk."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole


done = False
last = 0
try:
    with httpx2.stream("GET", URL) as response:
        response.raise_for_status()
        for line in lines(response.iter_bytes()):
            order = json.loads(line)
            if "done" in order:
                done = order["done"]
            else:
                last = order["id"]
                print(last, order["placed_at"], order["customer"], order["price"])
except httpx2.TransportError as error:
    print(f"The connection broke: {error!r}", file=sys.stderr)

if not done:
    sys.exit(f"The orders are not complete. Ask for the rest with after={last}.")
print("These are all the orders.")
