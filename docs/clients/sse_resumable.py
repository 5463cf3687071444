"""Print the feed of the shop, whatever happens to the connection, up to its end.

Needs httpx2 (pip install httpx2), and the recipe running on port 8000.
"""

import time

import httpx2

URL = "http://127.0.0.1:8000/events"
# FastAPI sends a ping after 15 silent seconds. Twice that without a byte means that the
# connection is lost.
TIMEOUT = httpx2.Timeout(5, read=30)  # seconds


class Feed:
    """A feed, and how far it has been read."""

    def __init__(self, client: httpx2.Client) -> None:
        self.client = client
        self.last_id = ""
        self.wait = 2.0  # seconds before the next connection, until the feed says

    def read(self) -> bool:
        """Read over one connection. True at the end of the feed, False if it broke."""
        headers = {"Last-Event-ID": self.last_id} if self.last_id else {}
        with self.client.sse(URL, headers=headers) as events:
            if events.response.status_code == 204:
                return True
            events.response.raise_for_status()
            for event in events:
                if event.retry is not None:
                    self.wait = event.retry / 1000
                if event.event == "reset":
                    self.last_id = ""
                    print(
                        "What was printed so far may have a gap. The feed begins anew:"
                    )
                elif event.event in ("order", "end"):
                    self.last_id = event.id
                    print(event.event, event.data, flush=True)
                if event.event == "end":
                    return True
        return False


with httpx2.Client(timeout=TIMEOUT) as client:
    feed = Feed(client)
    ended = False
    while not ended:
        try:
            ended = feed.read()
        except httpx2.TransportError as error:
            print(f"{type(error).__name__}: connecting again in {feed.wait:.1f} s")
        except httpx2.HTTPStatusError as error:
            # A proxy answers 502, 503 or 504 while the server is started anew.
            if error.response.status_code < 500:
                raise
            print(
                f"{error.response.status_code}: connecting again in {feed.wait:.1f} s"
            )
        if not ended:
            time.sleep(feed.wait)
