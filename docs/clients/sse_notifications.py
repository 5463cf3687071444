"""Print what happens to ada's orders, and notice if something was missed.

Needs httpx2 (pip install httpx2), and the recipe running on port 8000. Ctrl+C ends it.
"""

import json
import sys

import httpx2

URL = "http://127.0.0.1:8000/users/ada/events"
# The recipe sends a heartbeat each second. Without one for this long it is gone.
TIMEOUT = httpx2.Timeout(5)  # seconds


def follow(client: httpx2.Client) -> None:
    """Print each event until the connection is lost."""
    version = 0
    with client.sse(URL) as events:
        events.response.raise_for_status()
        for event in events:
            data = json.loads(event.data)
            if event.event == "init":
                print("All of it:", data["orders"], data["messages"], flush=True)
            elif event.event == "order_changed":
                print("Changed:", data["order"], flush=True)
            elif event.event == "message":
                print("Message:", data["text"], flush=True)
            elif event.event == "heartbeat" and data["version"] != version:
                sys.exit("A change is missing.")
            version = data["version"]


with httpx2.Client(timeout=TIMEOUT) as client:
    try:
        follow(client)
    except httpx2.TransportError as error:
        sys.exit(f"The connection was lost: {error}")

sys.exit("The connection was closed.")
