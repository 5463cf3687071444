"""Wrong: an order that comes between the old events and the live ones is lost.

Run it:   uvicorn recipes.pitfalls.sse_resumable.replay_then_subscribe:app
Try it:   curl -N -Z --parallel-immediate --max-time 3 http://127.0.0.1:8000/events \
              --next -X POST http://127.0.0.1:8000/orders
          curl http://127.0.0.1:8000/missed
See it:   [4]
"""

# --8<-- [start:program]
import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.sse import EventSourceResponse

app = FastAPI()
log = [1, 2, 3]  # the orders so far
sent: list[int] = []
listeners: set[asyncio.Queue[int]] = set()


@app.post("/orders")
async def place_order() -> int:
    """Add an order to the log, and tell every listener."""
    await asyncio.sleep(0.2)
    order = len(log) + 1
    log.append(order)
    for listener in listeners:
        listener.put_nowait(order)
    return order


@app.get("/missed")
async def missed() -> list[int]:
    """Tell which orders were sent to nobody."""
    return [order for order in log if order not in sent]


# --8<-- [end:program]
# --8<-- [start:wrong]
@app.get("/events", response_class=EventSourceResponse)
async def feed() -> AsyncIterator[int]:
    """Send the old orders first; then begin to listen for new ones."""
    for order in log.copy():
        await asyncio.sleep(0.5)  # The network and the database take their time.
        sent.append(order)
        yield order
    listener = asyncio.Queue[int]()
    listeners.add(listener)
    try:
        while True:
            order = await listener.get()
            sent.append(order)
            yield order
    finally:
        listeners.discard(listener)


# --8<-- [end:wrong]
