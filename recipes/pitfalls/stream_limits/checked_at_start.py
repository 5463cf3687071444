"""Wrong: the session is looked at once, and the stream outlasts it.

Run it:   uvicorn recipes.pitfalls.stream_limits.checked_at_start:app
Try it:   curl -X POST http://127.0.0.1:8000/sign-in
          curl -N http://127.0.0.1:8000/events
See it:   the session ended 1 s ago
"""

# --8<-- [start:program]
import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from fastapi.sse import EventSourceResponse

SESSION = 5.0  # seconds
app = FastAPI()
sessions: dict[str, float] = {}  # when each ends


@app.post("/sign-in", status_code=204)
async def sign_in() -> None:
    """Begin a session; there is only one user here."""
    sessions["ada"] = time.monotonic() + SESSION


async def left() -> float:
    """Give the seconds that the session has left; 401 if it is over."""
    seconds = sessions.get("ada", 0) - time.monotonic()
    if seconds <= 0:
        raise HTTPException(401, "Sign in again.")
    return seconds


# --8<-- [end:program]
# --8<-- [start:wrong]
@app.get("/events", response_class=EventSourceResponse)
async def events(seconds: Annotated[float, Depends(left)]) -> AsyncIterator[str]:
    """Look at the session when the stream begins."""
    for number in range(16):
        over = number * 0.5 - seconds
        if over > 0:
            yield f"order {number}; the session ended {over:.0f} s ago"
        else:
            yield f"order {number}"
        await asyncio.sleep(0.5)


# --8<-- [end:wrong]
# --8<-- [start:right]
@app.get("/right", response_class=EventSourceResponse)
async def right(_: Annotated[float, Depends(left)]) -> AsyncIterator[str]:
    """Look at it again before each order."""
    number = 0
    while sessions["ada"] > time.monotonic():
        yield f"order {number}"
        number += 1
        await asyncio.sleep(0.5)
    yield "closed: the session is over"


# --8<-- [end:right]
