"""What happens when the client leaves: each step is printed.

Run it:   uvicorn docs.learn.cancellation:app
Try it:   curl -N --max-time 2 http://127.0.0.1:8000/by-hand
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from typing import Annotated

import anyio
from fastapi import Depends, FastAPI
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse
from starlette.background import BackgroundTask

PAUSE = 0.5  # seconds between two orders
CLEAN_UP = 5.0  # seconds that a clean-up may take

app = FastAPI()


# --8<-- [start:producer]
def say(step: str) -> None:
    """Print a step in the server's terminal."""
    print(step, flush=True)


async def orders() -> AsyncGenerator[str, None]:
    """Give an order twice a second, and tell how that ends."""
    try:
        number = 0
        while True:
            number += 1
            say(f"order {number}")
            yield f"order {number}\n"
            await asyncio.sleep(PAUSE)
    except asyncio.CancelledError:
        say("CancelledError at the await")
        raise
    except GeneratorExit:
        say("GeneratorExit at the yield")
        raise
    finally:
        say("finally")


async def connection() -> AsyncIterator[None]:
    """Stand for what a request holds: a place, a connection to a database."""
    try:
        yield
    finally:
        say("the dependency is left")


# --8<-- [end:producer]
# --8<-- [start:by-hand]
@app.get("/by-hand", dependencies=[Depends(connection)])
async def by_hand() -> StreamingResponse:
    """Return a response."""
    return StreamingResponse(orders(), background=BackgroundTask(say, "background"))


# --8<-- [end:by-hand]
# --8<-- [start:native]
@app.get(
    "/native",
    response_class=EventSourceResponse,
    dependencies=[Depends(connection)],
)
async def native() -> AsyncIterator[str]:
    """Yield in the endpoint: FastAPI makes the response."""
    async for order in orders():
        yield order


# --8<-- [end:native]
# --8<-- [start:closed]
async def open_feed() -> AsyncIterator[AsyncIterator[str]]:
    """Close the generator when the response has ended."""
    async with aclosing(orders()) as feed:
        yield feed


@app.get("/closed", response_class=EventSourceResponse)
async def closed(
    feed: Annotated[AsyncIterator[str], Depends(open_feed)],
) -> AsyncIterator[str]:
    """Yield in the endpoint what a dependency closes."""
    async for order in feed:
        yield order


# --8<-- [end:closed]
# --8<-- [start:thread]
def orders_in_a_thread() -> Iterator[str]:
    """Give an order twice a second; Starlette asks for each in a thread."""
    try:
        number = 0
        while True:
            number += 1
            say(f"order {number}")
            yield f"order {number}\n"
            time.sleep(PAUSE)
            say("the thread has slept to the end")
    finally:
        say("finally")


@app.get("/thread", dependencies=[Depends(connection)])
async def thread() -> StreamingResponse:
    """Return a response with an ordinary generator."""
    return StreamingResponse(orders_in_a_thread())


# --8<-- [end:thread]
# --8<-- [start:finally]
async def save() -> None:
    """Write something down, which awaits."""
    await asyncio.sleep(0)
    say("saved")


async def saved_without_a_shield() -> AsyncIterator[str]:
    """Save when the stream ends: wrong."""
    try:
        async with aclosing(orders()) as feed:
            async for order in feed:
                yield order
    finally:
        await save()


async def saved_under_a_shield() -> AsyncIterator[str]:
    """Save when the stream ends: right."""
    try:
        async with aclosing(orders()) as feed:
            async for order in feed:
                yield order
    finally:
        with anyio.move_on_after(CLEAN_UP, shield=True):
            await save()


# --8<-- [end:finally]
@app.get("/unshielded")
async def unshielded() -> StreamingResponse:
    """Lose what was to be saved."""
    return StreamingResponse(saved_without_a_shield())


@app.get("/shielded")
async def shielded() -> StreamingResponse:
    """Save it."""
    return StreamingResponse(saved_under_a_shield())
