"""Serve an application in the background, for notebooks and recordings."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp


@contextmanager
def serving(app: ASGIApp) -> Iterator[str]:
    """Serve `app` with uvicorn in a thread, and give its address.

    The server listens on 127.0.0.1, on a port that is free, and ends with the block.
    Raises RuntimeError if the application's lifespan fails.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    # Named, since uvicorn takes some callables for applications of the ASGI before.
    config = uvicorn.Config(app, interface="asgi3", log_level="error", lifespan="on")
    config.timeout_graceful_shutdown = 1  # seconds
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        thread.join(0.01)
    if not server.started:
        listener.close()
        raise RuntimeError("the application did not start: its lifespan failed")
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
