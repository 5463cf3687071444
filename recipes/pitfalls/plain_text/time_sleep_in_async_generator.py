"""Wrong: `time.sleep` in an async generator stops the whole server while it sleeps.

Run it:   uvicorn recipes.pitfalls.plain_text.time_sleep_in_async_generator:app
Try it:   curl -Z --parallel-immediate --no-progress-meter --max-time 0.5 \
              http://127.0.0.1:8000/slip http://127.0.0.1:8000/slip
See it:   with 0 bytes received
"""

# --8<-- [start:wrong]
import time
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

app = FastAPI()
PAUSE = 0.25  # seconds


async def packing_slip() -> AsyncIterator[str]:
    """Pack one order; give a line of text for each item."""
    for item in ("green tea", "tea pot", "honey"):
        time.sleep(PAUSE)  # Nobody else is served meanwhile.
        yield f"packed: {item}\n"


@app.get("/slip")
async def slip() -> StreamingResponse:
    """Stream the slip."""
    return StreamingResponse(packing_slip(), media_type="text/plain")


# --8<-- [end:wrong]
