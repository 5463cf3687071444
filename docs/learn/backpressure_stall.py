"""Read three orders of each stream, then stop reading, and see how many are made.

Needs httpx2 (pip install httpx2), and the application running on port 8000.
"""

from contextlib import ExitStack

import httpx2

URL = "http://127.0.0.1:8000"
STEP = 10_000  # orders

with ExitStack() as stack:
    kept = []
    for way in ("direct", "bounded", "unbounded"):
        response = stack.enter_context(httpx2.stream("GET", f"{URL}/{way}"))
        lines = response.raise_for_status().iter_lines()
        for _ in range(3):
            next(lines)
        kept.append(lines)  # What nobody keeps is closed, and the client has left.
    for goal in range(STEP, 6 * STEP, STEP):
        made = {"unbounded": 0}
        while made["unbounded"] < goal:
            made = httpx2.get(f"{URL}/made").json()
        print(made, flush=True)
