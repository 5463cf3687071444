"""Print every change there is, over as many connections as that takes.

Needs httpx2 (pip install httpx2), and the recipe running on port 8000.
"""

import sys
import time
from collections.abc import Iterator

import httpx2

URL = "http://127.0.0.1:8000/changes"
TRIES = 5  # connections in a row that bring nothing
# The recipe pings after 15 silent seconds. httpx2's own limit is 5 seconds.
TIMEOUT = httpx2.Timeout(5, read=30)  # seconds


def read(client: httpx2.Client, seen: str) -> Iterator[httpx2.ServerSentEvent]:
    """Give the events behind the one that was seen last, until the connection ends."""
    headers = {"Last-Event-ID": seen} if seen else {}
    with client.sse(URL, headers=headers) as events:
        events.response.raise_for_status()
        yield from events


changes: dict[str, str] = {}
seen = ""
retry = 3.0  # seconds, unless the server says something else
tries = TRIES
done = False
with httpx2.Client(timeout=TIMEOUT) as client:
    while tries and not done:
        tries -= 1
        try:
            for event in read(client, seen):
                if event.retry is not None:
                    retry = event.retry / 1000
                if event.event == "reset":
                    changes.clear()
                elif event.event == "change":
                    seen = event.id
                    changes[seen] = event.data
                    print(event.data, flush=True)
                    tries = TRIES
                elif event.event == "done":
                    print("The server counts", event.data)
                    done = True
                    break
        except httpx2.TransportError as error:
            print(f"The connection broke: {error!r}", file=sys.stderr)
        if not done:
            print(f"Going on behind {seen or 'nothing'}", file=sys.stderr)
            time.sleep(retry)

if not done:
    sys.exit("The changes are not complete.")
print(len(changes), "changes are here.")
