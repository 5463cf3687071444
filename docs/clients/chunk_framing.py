"""Upload a file of orders line by line, and print what the shop says to each.

Needs httpx2 (pip install httpx2), and the recipe running on port 8000.
"""

import json
import sys

import httpx2

URL = "http://127.0.0.1:8000/orders"
ORDERS = [
    {"id": 5, "item": "green tea", "amount": 2},
    {"id": 6, "item": "crème brûlée", "amount": 0},
    {"id": 7, "item": "honey", "amount": 1},
]

# A generator is sent as it is read, so a long upload takes no memory.
lines = (json.dumps(order).encode() + b"\n" for order in ORDERS)
last = {}
with httpx2.stream("POST", URL, content=lines) as response:
    if response.status_code != 200:
        response.read()
        sys.exit(f"{response.status_code}: {response.text}")
    for line in response.iter_lines():
        last = json.loads(line)
        if "taken" in last:
            print(f"line {last['line']}: order {last['taken']} is taken", flush=True)
        elif "error" in last:
            print(f"line {last['line']}: {last['error']}", flush=True)

if "failed" in last:
    sys.exit(f"Not complete: {last['failed']}")
if not last.get("done"):
    sys.exit("Not complete: the answer was cut short.")
print(f"complete: {last['lines']} lines")
