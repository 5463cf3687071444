"""Print the feed of order 7 as it arrives, up to its end.

Needs httpx2 (pip install httpx2), and the recipe running on port 8000.
"""

import sys

import httpx2

URL = "http://127.0.0.1:8000/native"
# FastAPI sends a ping after 15 silent seconds. Twice that without a byte means that the
# connection is lost. httpx2's own limit, 5 seconds, would cut a silent feed.
TIMEOUT = httpx2.Timeout(5, read=30)  # seconds


def print_feed(client: httpx2.Client) -> bool:
    """Print each event; True if the last one was the end, False if the feed broke."""
    with client.sse(URL) as events:
        events.response.raise_for_status()
        for event in events:
            print(event.id, event.event, event.data, flush=True)
            if event.event == "end":
                return True
    return False


with httpx2.Client(timeout=TIMEOUT) as client:
    complete = print_feed(client)

if not complete:
    sys.exit("The feed stopped before its end.")
