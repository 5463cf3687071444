"""Sign in, print orders as they arrive, and come back when a stream has had its time.

Needs httpx2 (pip install httpx2), and the recipe running on port 8000.
"""

import json
import sys
import time

import httpx2

URL = "http://127.0.0.1:8000"


def print_events(client: httpx2.Client) -> str:
    """Print each event; give the reason of the last one."""
    with client.sse("/events") as events:
        events.response.raise_for_status()
        for event in events:
            print(event.event, event.data, flush=True)
            if event.event == "closed":
                return str(json.loads(event.data)["reason"])
    sys.exit("The stream broke off.")


with httpx2.Client(base_url=URL) as client:
    token = client.post("/sign-in", json={"name": "ada"})
    token.raise_for_status()
    client.headers["Authorization"] = f"Bearer {token.text}"
    reason = "lifetime"
    while reason == "lifetime":
        try:
            reason = print_events(client)
        except httpx2.HTTPStatusError as error:
            if error.response.status_code == 401:
                reason = "expired"  # between two streams
            elif error.response.status_code == 429:
                time.sleep(int(error.response.headers["Retry-After"]))
            else:
                raise

print("The session is over: sign in again.")
