"""Wrong: the generator's `finally` gives the place back, but nobody closes it.

Run it:   uvicorn recipes.pitfalls.sse_disconnect.place_in_generator:app
Try it:   curl -N --limit-rate 1k --max-time 1 -o /dev/null http://127.0.0.1:8000/right-events
          curl -N --limit-rate 1k --max-time 1 -o /dev/null http://127.0.0.1:8000/events
          curl http://127.0.0.1:8000/places
See it:   ["generator"]
"""

# --8<-- [start:program]
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from fastapi import Depends, FastAPI
from fastapi.sse import EventSourceResponse

places: list[str] = []  # those that are taken


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Turn the garbage collector off, so that you see what waits for it."""
    gc.disable()
    yield
    gc.enable()


async def slow_client_may_leave() -> AsyncIterator[None]:
    """Drop the error that FastAPI raises when a slow client leaves."""
    try:
        yield
    except* anyio.BrokenResourceError:
        pass


app = FastAPI(lifespan=lifespan, dependencies=[Depends(slow_client_may_leave)])


@app.get("/places")
def taken() -> list[str]:
    """Tell which places are taken."""
    return places


# --8<-- [end:program]
# --8<-- [start:wrong]
@app.get("/events", response_class=EventSourceResponse)
async def feed() -> AsyncIterator[str]:
    """Take a place, and give it back in the end."""
    places.append("generator")
    try:
        while True:
            yield "a long list of items" * 10_000
    finally:
        places.remove("generator")


# --8<-- [end:wrong]
# --8<-- [start:right]
async def take_a_place() -> AsyncIterator[None]:
    """Take a place, and give it back when the response ends."""
    places.append("dependency")
    try:
        yield
    finally:
        places.remove("dependency")


RIGHT = [Depends(take_a_place)]


@app.get("/right-events", response_class=EventSourceResponse, dependencies=RIGHT)
async def right_feed() -> AsyncIterator[str]:
    """Hold the place of the dependency."""
    while True:
        yield "a long list of items" * 10_000


# --8<-- [end:right]
