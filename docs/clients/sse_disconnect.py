"""Print three orders, and leave.

Needs httpx2 (pip install httpx2), and the recipe running on port 8000.
"""

import httpx2

URL = "http://127.0.0.1:8000/native"

with httpx2.Client() as client, client.sse(URL) as events:
    events.response.raise_for_status()
    for number, event in enumerate(events, start=1):
        print(event.data, flush=True)
        if number == 3:
            break  # Leaving the `with` block closes the connection.

print("Left.")
