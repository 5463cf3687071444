"""Print each line of a packing slip as it arrives."""

import httpx2

URL = "http://127.0.0.1:8000/route/2"

with httpx2.stream("GET", URL) as response:
    response.raise_for_status()
    for line in response.iter_lines():
        print(line, flush=True)
