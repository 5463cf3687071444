"""Wrong: an async generator that never waits cannot be stopped, nor can its server."""

from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

app = FastAPI()


# --8<-- [start:wrong]
async def ticket_numbers() -> AsyncIterator[str]:
    """Count for ever, and never await."""
    number = 0
    while True:
        number += 1
        yield f"ticket {number}\n"


@app.get("/tickets")
async def tickets() -> StreamingResponse:
    """Stream the numbers; when the client leaves, this loop goes on alone."""
    return StreamingResponse(ticket_numbers(), media_type="text/plain")


# --8<-- [end:wrong]
# --8<-- [start:right]
class TextStream(StreamingResponse):
    """Text in UTF-8."""

    media_type = "text/plain"


@app.get("/tickets-as-route", response_class=TextStream)
async def tickets_as_route() -> AsyncIterator[str]:
    """Yield from the route: FastAPI waits a moment after every item."""
    number = 0
    while True:
        number += 1
        yield f"ticket {number}\n"


# --8<-- [end:right]
