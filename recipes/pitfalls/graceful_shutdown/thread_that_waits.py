"""Wrong: a thread waits for the next order without a limit, and nothing cuts it off.

Run it:   uvicorn recipes.pitfalls.graceful_shutdown.thread_that_waits:app
Try it:   curl -N --max-time 3 http://127.0.0.1:8000/orders
See it:   Operation timed out
"""

# --8<-- [start:program]
import os
import signal
from collections.abc import Iterator
from queue import SimpleQueue

from fastapi import FastAPI
from fastapi.sse import EventSourceResponse, ServerSentEvent

app = FastAPI()
placed: SimpleQueue[int] = SimpleQueue()


def deploy() -> None:
    """Stand for your deployment: tell this process to stop."""
    os.kill(os.getpid(), signal.SIGTERM)


# --8<-- [end:program]
# --8<-- [start:wrong]
@app.get("/orders", response_class=EventSourceResponse)
def orders() -> Iterator[ServerSentEvent]:
    """Send order 1, and then each order that is placed."""
    yield ServerSentEvent(data={"id": 1}, event="order")
    deploy()
    while True:
        number = placed.get()
        yield ServerSentEvent(data={"id": number}, event="order")


# --8<-- [end:wrong]
