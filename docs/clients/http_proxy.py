"""Print each line as it arrives, and tell a whole answer from one that broke off."""

import sys

import httpx2

URL = "http://127.0.0.1:8000/shop/async/1"

with httpx2.stream("GET", URL) as response:
    if response.is_error:
        response.read()
        sys.exit(f"{response.status_code}: {response.text}")
    try:
        for line in response.iter_lines():
            print(line, flush=True)
    except httpx2.HTTPError as error:
        sys.exit(f"The answer broke off: {error}")
print("complete")
