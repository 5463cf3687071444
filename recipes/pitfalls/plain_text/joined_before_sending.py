"""Wrong: the lines are joined before they are sent, so the first waits for the last.

Run it:   uvicorn recipes.pitfalls.plain_text.joined_before_sending:app
Try it:   curl -N -i http://127.0.0.1:8000/slip/1
See it:   content-length: 78
"""

# --8<-- [start:wrong]
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

from recipes.plain_text import Found, packing_slip_async

app = FastAPI()


@app.get("/slip/{order_id}")
async def slip(order: Found) -> PlainTextResponse:
    """Gather all lines, and send them as one text."""
    lines = [line async for line in packing_slip_async(order)]
    return PlainTextResponse("".join(lines))


# --8<-- [end:wrong]
