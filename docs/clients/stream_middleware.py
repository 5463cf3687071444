"""Print orders as they arrive, and the id under which the server's log has them.

Needs httpx2 (pip install httpx2), and the recipe running on port 8000.
"""

import time
from uuid import uuid4

import httpx2

URL = "http://127.0.0.1:8000/orders"

headers = {"X-Request-ID": uuid4().hex}
begun = time.perf_counter()
with httpx2.stream("GET", URL, headers=headers) as response:
    response.raise_for_status()
    encoding = response.headers.get("Content-Encoding", "no compression")
    print(f"request {response.headers['X-Request-ID']}, {encoding}")
    for line in response.iter_lines():
        print(f"{time.perf_counter() - begun:.1f} s", line, flush=True)
