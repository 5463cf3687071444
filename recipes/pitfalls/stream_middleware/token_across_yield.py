"""Wrong: a generator holds a context variable's token across its `yield`.

Run it:   uvicorn recipes.pitfalls.stream_middleware.token_across_yield:app
Try it:   curl -N http://127.0.0.1:8000/orders
See it:   transfer closed
"""

# --8<-- [start:program]
from collections.abc import AsyncGenerator, AsyncIterator
from contextvars import ContextVar

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

app = FastAPI()
user: ContextVar[str] = ContextVar("user", default="nobody")


# --8<-- [end:program]
# --8<-- [start:wrong]
async def rows() -> AsyncGenerator[str, None]:
    """Give three orders of one user."""
    token = user.set("ada")
    try:
        for number in range(1, 4):
            yield f"order {number} of {user.get()}\n"
    finally:
        user.reset(token)


async def from_the(first: str, rest: AsyncIterator[str]) -> AsyncIterator[str]:
    """Give the first, then the rest."""
    yield first
    async for row in rest:
        yield row


@app.get("/orders")
async def orders() -> StreamingResponse:
    """Read the first order early, while the answer may still become a 404."""
    rest = rows()
    first = await anext(rest)
    return StreamingResponse(from_the(first, rest), media_type="text/plain")


# --8<-- [end:wrong]
# --8<-- [start:right]
async def plain_rows() -> AsyncGenerator[str, None]:
    """Give three orders of the user that the context names."""
    for number in range(1, 4):
        yield f"order {number} of {user.get()}\n"


@app.get("/right")
async def right() -> StreamingResponse:
    """Set the variable in the task of the request, which ends with it."""
    user.set("ada")
    rest = plain_rows()
    first = await anext(rest)
    return StreamingResponse(from_the(first, rest), media_type="text/plain")


# --8<-- [end:right]
