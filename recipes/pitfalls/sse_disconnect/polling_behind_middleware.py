"""Wrong: behind `@app.middleware("http")` no client ever seems to leave.

Run it:   uvicorn recipes.pitfalls.sse_disconnect.polling_behind_middleware:app
Try it:   curl --max-time 1 http://127.0.0.1:8000/report
          curl http://127.0.0.1:8000/outcome
See it:   "10 days for nobody"
"""

# --8<-- [start:program]
import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.middleware.base import RequestResponseEndpoint


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """Keep what became of the reports."""
    yield {"outcomes": asyncio.Queue()}


app = FastAPI(lifespan=lifespan)


@app.get("/report")
async def report(request: Request) -> None:
    """Add up ten days, as long as somebody waits."""
    for day in range(10):
        if await request.is_disconnected():
            await request.state.outcomes.put(f"stopped after {day} days")
            return
        await asyncio.sleep(0.2)
    await request.state.outcomes.put("10 days for nobody")


@app.get("/outcome")
async def get_outcome(request: Request) -> str:
    """Wait until the report has ended, and tell how."""
    outcome: str = await request.state.outcomes.get()
    return outcome


# --8<-- [end:program]
# --8<-- [start:wrong]
@app.middleware("http")
async def add_time(request: Request, call_next: RequestResponseEndpoint) -> Response:
    """Say how long it took."""
    begun = time.perf_counter()
    response = await call_next(request)
    response.headers["X-Seconds"] = f"{time.perf_counter() - begun:.3f}"
    return response


# --8<-- [end:wrong]
