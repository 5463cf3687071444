"""Wrong: `time.sleep` in an async generator stops the whole server while it sleeps."""

import time
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

app = FastAPI()
PAUSE = 0.25  # seconds


# --8<-- [start:wrong]
async def packing_slip() -> AsyncIterator[str]:
    """Pack one order and tell about it."""
    for item in ("green tea", "tea pot", "honey"):
        time.sleep(PAUSE)  # Nobody else is served meanwhile.
        yield f"packed: {item}\n"


# --8<-- [end:wrong]
@app.get("/slip")
async def slip() -> StreamingResponse:
    """Stream the slip."""
    return StreamingResponse(packing_slip(), media_type="text/plain")
