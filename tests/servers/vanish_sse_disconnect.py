"""Let a client vanish without a word, in a network namespace of this process's own.

`unshare -n python tests/servers/vanish_sse_disconnect.py COMMAND …` starts a server on
port 8000, reads the beginning of a stream from it, takes the network away, and then
waits for what the server writes about the end of the visit.
"""

import contextlib
import socket
import subprocess
import sys
import time

WAIT = 20  # seconds; the server's imports come first

subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
server = subprocess.Popen(
    sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
)
assert server.stdout is not None
try:
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            client = socket.create_connection(("127.0.0.1", 8000), WAIT)
            break
        time.sleep(0.05)
    client.sendall(b"GET /by-hand HTTP/1.1\r\nHost: shop.example\r\n\r\n")
    received = b""
    while b"data: " not in received:
        received += client.recv(1000)
    subprocess.run(["ip", "link", "set", "lo", "down"], check=True)
    client.close()  # Nobody hears it.
    for line in server.stdout:
        if "given;" in line:
            sys.stdout.write(line)
            break
finally:
    server.kill()
    server.wait()
