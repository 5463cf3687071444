"""Wrong: an async generator that never waits cannot be stopped, nor can its server.

Run it:   uvicorn recipes.pitfalls.plain_text.generator_without_await:app
Try it:   curl -sS --max-time 1 -o /dev/null http://127.0.0.1:8000/tickets
          curl -sS --max-time 2 http://127.0.0.1:8000/openapi.json
See it:   with 0 bytes received
"""

# --8<-- [start:wrong]
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

app = FastAPI()


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
    """Yield from the route: FastAPI lets other work run after every item."""
    number = 0
    while True:
        number += 1
        yield f"ticket {number}\n"


# --8<-- [end:right]
