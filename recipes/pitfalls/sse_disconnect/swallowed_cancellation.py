"""Wrong: the feed catches its own cancellation, and goes on at full speed.

Run it:   uvicorn recipes.pitfalls.sse_disconnect.swallowed_cancellation:app
Try it:   curl -N --max-time 1 http://127.0.0.1:8000/events
          curl http://127.0.0.1:8000/made
See it:   50
"""

# --8<-- [start:wrong]
import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

app = FastAPI()
made: list[int] = []


async def new_orders() -> AsyncIterator[str]:
    """Tell of fifty orders, one every half second."""
    for number in range(50):
        made.append(number)
        yield f"data: {number}\n\n"
        try:
            await asyncio.sleep(0.5)
        except asyncio.CancelledError:
            continue  # The client has left.


@app.get("/events")
async def feed() -> StreamingResponse:
    """Send the orders."""
    return StreamingResponse(new_orders(), media_type="text/event-stream")


@app.get("/made")
def count_made() -> int:
    """Tell how many orders were made."""
    return len(made)


# --8<-- [end:wrong]
