"""Wrong: the token of a session stands in the address of an EventSource.

Run it:   uvicorn recipes.pitfalls.stream_limits.token_in_address:app
Try it:   curl -N 'http://127.0.0.1:8000/events?token=secret-of-ada'
          curl http://127.0.0.1:8000/log
See it:   GET /events?token=secret-of-ada
"""

# --8<-- [start:program]
import logging
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException
from fastapi.sse import EventSourceResponse

TOKENS = {"secret-of-ada": "ada"}  # good until Ada signs out
lines: deque[str] = deque(maxlen=100)


class Kept(logging.Handler):
    """Keeps what uvicorn logs, as your provider's log viewer does."""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        lines.append(record.getMessage())


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Listen to the access log."""
    kept = Kept()
    logging.getLogger("uvicorn.access").addHandler(kept)
    yield
    logging.getLogger("uvicorn.access").removeHandler(kept)


app = FastAPI(lifespan=lifespan)


@app.get("/log")
async def log() -> list[str]:
    """Show the log."""
    return [*lines]


# --8<-- [end:program]
# --8<-- [start:wrong]
@app.get("/events", response_class=EventSourceResponse)
async def events(token: str) -> AsyncIterator[str]:
    """Know the user by the address, because EventSource sends no header."""
    if token not in TOKENS:
        raise HTTPException(401)
    yield f"for {TOKENS[token]}"


# --8<-- [end:wrong]
