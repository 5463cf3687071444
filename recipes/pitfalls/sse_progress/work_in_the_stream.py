"""Wrong: the stream does the work, so whoever closes the page stops the import.

Run it:   uvicorn recipes.pitfalls.sse_progress.work_in_the_stream:app
Try it:   curl -N --max-time 1 http://127.0.0.1:8000/import
          curl http://127.0.0.1:8000/outcomes
See it:   ["stopped in the middle"]
"""

# --8<-- [start:program]
import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.sse import EventSourceResponse

app = FastAPI()
outcomes: list[str] = []


@app.get("/outcomes")
def get_outcomes() -> list[str]:
    """Tell how the imports ended."""
    return outcomes


# --8<-- [end:program]
# --8<-- [start:wrong]
@app.get("/import", response_class=EventSourceResponse)
async def import_orders() -> AsyncIterator[dict[str, int]]:
    """Import ten orders, and tell the only watcher how far it is."""
    try:
        for row in range(1, 11):
            await asyncio.sleep(0.2)  # the work on one row
            yield {"percent": 10 * row}
        outcomes.append("completed")
    except asyncio.CancelledError:
        outcomes.append("stopped in the middle")
        raise


# --8<-- [end:wrong]
