"""Start the recipe on a socket whose connections end when the client is not heard.

Linux only. It stands for the command `uvicorn recipes.sse_disconnect:app`.
"""

import socket

import uvicorn

APP = "recipes.sse_disconnect:app"
UNHEARD = 30_000  # milliseconds for which sent bytes may stay unacknowledged or unread

listener = socket.create_server(("127.0.0.1", 8000))
listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNHEARD)
uvicorn.run(APP, app_dir="", fd=listener.fileno())
