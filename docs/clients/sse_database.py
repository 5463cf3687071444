"""Print every change there is, over as many connections as that takes.

Needs httpx2 (pip install httpx2), and the recipe running on port 8000.
"""

import sys
import time

import httpx2

URL = "http://127.0.0.1:8000/changes"
TRIES = 5  # connections in a row that bring nothing new
# The recipe pings after 15 silent seconds. httpx2's own limit is 5 seconds.
TIMEOUT = httpx2.Timeout(5, read=30)  # seconds

changes: dict[str, str] = {}
seen = ""  # the id of the last change
retry = 3.0  # seconds until the next try, unless the server says something else
done = False


def read_on(client: httpx2.Client) -> None:
    """Read one connection to its end, whatever the end is."""
    global seen, retry, done
    headers = {"Last-Event-ID": seen} if seen else {}
    with client.sse(URL, headers=headers) as events:
        events.response.raise_for_status()
        for event in events:
            if event.retry is not None:
                retry = event.retry / 1000
            if event.event == "reset":
                changes.clear()
            elif event.event == "change":
                seen = event.id
                changes[seen] = event.data
                print(event.data, flush=True)
            elif event.event == "done":
                print(f"The server counts: {event.data}")
                done = True
                return


with httpx2.Client(timeout=TIMEOUT) as client:
    tries = TRIES
    while tries and not done:
        before = len(changes)
        try:
            read_on(client)
        except httpx2.TransportError as error:
            print(f"The connection broke: {error!r}", file=sys.stderr)
        tries = TRIES if len(changes) > before else tries - 1
        if not done:
            print(f"Going on behind {seen or 'nothing'}", file=sys.stderr)
            time.sleep(retry)

if not done:
    sys.exit("The changes are not complete.")
print(f"{len(changes)} changes are here.")
