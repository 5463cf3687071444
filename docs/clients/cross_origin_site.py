"""Serve the page `cross_origin.html` on port 8003, which makes it another origin."""

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PORT = 8003

handler = partial(SimpleHTTPRequestHandler, directory=Path(__file__).parent)
with ThreadingHTTPServer(("127.0.0.1", PORT), handler) as server:
    print(f"http://127.0.0.1:{PORT}/cross_origin.html", flush=True)
    server.serve_forever()
