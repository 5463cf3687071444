"""Print the orders as they arrive, and say which of four ways the feed has ended.

Needs httpx2 (pip install httpx2), and the recipe running on port 8000.
"""

import json
import sys

import httpx2

URL = "http://127.0.0.1:8000/native"
# FastAPI sends a ping after 15 silent seconds; twice that without a byte is a failure.
TIMEOUT = httpx2.Timeout(5, read=30)  # seconds

last = {}
try:
    with httpx2.Client(timeout=TIMEOUT) as client, client.sse(URL) as events:
        response = events.response
        if response.status_code != 200:
            response.read()
            sys.exit(f"{response.status_code}: {response.text}")
        for event in events:
            last = json.loads(event.data)
            if last["type"] == "order":
                print(last["id"], last["item"], flush=True)
except httpx2.TransportError as error:
    print(f"The connection broke: {error}", file=sys.stderr)

end = last.get("type")
if end == "failed":
    sys.exit(f"Failed after {last['orders']} orders. Reference: {last['reference']}")
if end != "done":
    sys.exit("Not complete: the feed has no end.")
print(f"Complete: {last['orders']} orders.")
