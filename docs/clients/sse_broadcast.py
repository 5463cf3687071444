"""Print what the shop tells, and connect again whenever the connection is lost.

Needs httpx2 (pip install httpx2), and the recipe running on port 8000.
"""

import json
import time

import httpx2

URL = "http://127.0.0.1:8000/events"
# The recipe pings idle listeners every 15 seconds. Twice that without a byte means that
# the connection is lost.
TIMEOUT = httpx2.Timeout(5, read=30)  # seconds
PAUSE = 2.0  # seconds


def listen(client: httpx2.Client) -> None:
    """Print each event, until the connection is lost."""
    with client.sse(URL) as events:
        events.response.raise_for_status()
        for event in events:
            if event.event == "order":
                order = json.loads(event.data)
                print(f"order {order['id']} is {order['state']}", flush=True)
            elif event.event == "missed":
                missed = json.loads(event.data)
                print(f"too slow: missed {missed['events']} events", flush=True)


with httpx2.Client(timeout=TIMEOUT) as client:
    while True:
        try:
            listen(client)
        except httpx2.TransportError:
            print("lost; what happens meanwhile is not sent later", flush=True)
        time.sleep(PAUSE)
