"""Count the chunks of an export as they are on the wire (RFC 9112, section 7.1)."""

import socket
from urllib.parse import urlsplit

URL = "http://127.0.0.1:8000/orders.csv?rows=5000"

url = urlsplit(URL)
chunks = 0
size = 0
with socket.create_connection((url.hostname, url.port)) as connection:
    head = f"GET {url.path}?{url.query} HTTP/1.1\r\nHost: {url.netloc}\r\n\r\n"
    connection.sendall(head.encode("ascii"))
    stream = connection.makefile("rb")
    status = stream.readline().decode("ascii")
    if not status.startswith("HTTP/1.1 200 "):
        raise SystemExit(f"The server answered {status}")
    while stream.readline() != b"\r\n":
        pass  # a header field
    while True:
        length = int(stream.readline(), base=16)  # Each chunk begins with its length.
        if length == 0:
            break
        stream.read(length)
        stream.readline()  # A line end follows each chunk.
        chunks += 1
        size += length
print(f"{chunks:,} chunks, {size:,} bytes")
