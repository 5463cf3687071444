"""Send an order, read its answer, and only then send the next: one request, both ways.

Only the standard library. `http.client` gives the answer while the request is open; the
chunks of the request are then framed here (RFC 9112, section 7.1).
"""

import http.client
import json
import sys
from urllib.parse import urlsplit

URL = "http://127.0.0.1:8000/orders"

url = urlsplit(URL)
connection = http.client.HTTPConnection(url.netloc, timeout=10)
connection.putrequest("POST", url.path)
connection.putheader("Transfer-Encoding", "chunked")
connection.endheaders()


def send(data: bytes) -> None:
    """Send one chunk; an empty one ends the request."""
    connection.send(b"%x\r\n%b\r\n" % (len(data), data))


response = connection.getresponse()  # The server answers before anything is uploaded.
if response.status != 200:
    sys.exit(f"{response.status}: {response.read().decode()}")
for order in ('{"id":1,"item":"tea","amount":1}', '{"id":2}', '{"id":3'):
    print(">", order, flush=True)
    send(order.encode() + b"\n")
    print("<", response.readline().decode(), end="", flush=True)
send(b"")
last = response.readline().decode()
print("<", last, end="")
if not last or "done" not in json.loads(last):
    sys.exit("Not complete.")
