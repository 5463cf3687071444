"""Print the states of order 7 and the pings in between, and notice a dead connection.

Needs httpx2 (pip install httpx2), and the recipe running on port 8000.
"""

import json
import sys

import httpx2

URL = "http://127.0.0.1:8000/by-hand?quiet=4&ping=1"
# The server sends something every second. Three seconds without a byte mean that the
# connection has died, also if nothing says so.
TIMEOUT = httpx2.Timeout(5, read=3)  # seconds


def print_feed(client: httpx2.Client) -> bool:
    """Print each event; True if the order was delivered, False if the feed broke."""
    with client.sse(URL) as events:
        events.response.raise_for_status()
        for event in events:
            print(event.event, event.data, flush=True)
            if (
                event.event == "order"
                and json.loads(event.data)["state"] == "delivered"
            ):
                return True
    return False


try:
    with httpx2.Client(timeout=TIMEOUT) as client:
        complete = print_feed(client)
except httpx2.ReadTimeout:
    sys.exit("Silent for 3 seconds: the connection has died.")

if not complete:
    sys.exit("The feed stopped before its end.")
