"""Wrong: ask for a stream with a function that gives the whole body."""

import httpx2

response = httpx2.get("http://127.0.0.1:8000/orders")
print(response.text)
