"""Sign in, and print the order's states: CORS binds browsers, not programs.

Needs httpx2 (pip install httpx2), and the recipe running on port 8000.
"""

import httpx2

URL = "http://127.0.0.1:8000"

with httpx2.Client() as client:
    answer = client.post(f"{URL}/sign-in", json={"name": "ada"})
    answer.raise_for_status()
    # The cookie is `Secure`. A browser sends it to 127.0.0.1 without TLS; httpx2 does
    # not, so this program says it itself.
    cookie = answer.headers["Set-Cookie"].split(";")[0]

    # A program can name any page as its origin, or none.
    headers = {"Origin": "http://127.0.0.1:8003", "Cookie": cookie}
    with client.sse(f"{URL}/events", headers=headers) as events:
        events.response.raise_for_status()
        for event in events:
            print(event.data, flush=True)
