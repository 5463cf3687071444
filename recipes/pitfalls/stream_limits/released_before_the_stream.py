"""Wrong: the place is free again when the response is returned, not when it ends.

Run it:   uvicorn recipes.pitfalls.stream_limits.released_before_the_stream:app
Try it:   curl -N -Z --parallel-immediate --no-progress-meter --max-time 2 \
            'http://127.0.0.1:8000/events?tab=[1-4]'
See it:   streams that are open: 4
"""

# --8<-- [start:program]
import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI, Response
from fastapi.responses import StreamingResponse

app = FastAPI()
limit = asyncio.Semaphore(1)  # streams at a time
open_streams: list[str] = []


async def told(tab: str) -> AsyncIterator[str]:
    """Tell how many streams there are."""
    open_streams.append(tab)
    try:
        for _ in range(10):
            yield f"data: streams that are open: {len(open_streams)}\n\n"
            await asyncio.sleep(0.5)
    finally:
        open_streams.remove(tab)


# --8<-- [end:program]
# --8<-- [start:wrong]
@app.get("/events")
async def events(tab: str) -> Response:
    """Hold the place for the length of this function."""
    async with limit:
        return StreamingResponse(told(tab), media_type="text/event-stream")


# --8<-- [end:wrong]
