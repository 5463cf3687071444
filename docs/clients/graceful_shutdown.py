"""Print twenty orders of the shop, however often its server is replaced meanwhile.

Needs httpx2 (pip install httpx2), and the recipe running on port 8000.
"""

import time

import httpx2

URL = "http://127.0.0.1:8000/native"
WANTED = 20  # orders
# FastAPI sends a ping after 15 silent seconds. Twice that without a byte means that the
# connection is lost.
TIMEOUT = httpx2.Timeout(5, read=30)  # seconds


class Feed:
    """A feed, and how far it has been read."""

    def __init__(self, client: httpx2.Client) -> None:
        self.client = client
        self.last_id = ""
        self.orders = 0
        self.wait = 2.0  # seconds before the next connection, until a farewell says

    def read(self) -> None:
        """Read over one connection until it ends, or until there are enough orders."""
        headers = {"Last-Event-ID": self.last_id} if self.last_id else {}
        with self.client.stream("GET", URL, headers=headers) as response:
            response.raise_for_status()
            for event in httpx2.EventSource(response):
                if event.retry is not None:
                    self.wait = event.retry / 1000
                if event.event == "order":
                    self.last_id = event.id
                    self.orders += 1
                print(event.event, event.data, flush=True)
                if self.orders == WANTED:
                    return


with httpx2.Client(timeout=TIMEOUT) as client:
    feed = Feed(client)
    while feed.orders < WANTED:
        try:
            feed.read()
        except httpx2.TransportError as error:
            # The new process does not listen yet, or the old one was killed.
            print(type(error).__name__, flush=True)
        except httpx2.HTTPStatusError as error:
            # A proxy answers 502, 503 or 504 while the server is started anew.
            if error.response.status_code < 500:
                raise
            print(error.response.status_code, flush=True)
        if feed.orders < WANTED:
            print(f"connecting again in {feed.wait:.1f} s", flush=True)
            time.sleep(feed.wait)
