"""The recipe, with jobs that take a step only when a test says so, and with counts.

The garbage collector is off: what is counted is what the recipe itself lets go.
"""

import asyncio
import gc
import types
from threading import Event, Semaphore
from typing import Any

from fastapi import Request

from recipes import sse_progress

gc.disable()


class Steps(Event):
    """In place of the pause before each step."""

    def __init__(self) -> None:
        super().__init__()
        self.allowed = Semaphore(0)

    def wait(self, _: float | None = None) -> bool:
        """Wait for a step that is allowed; tell whether the job is to stop."""
        while not self.is_set():
            if self.allowed.acquire(timeout=0.01):
                return False
        return True


setattr(sse_progress, "Event", Steps)  # noqa: B010 - mypy knows it for an import
app = sse_progress.app


@app.get("/allow")
def allow(request: Request, steps: int) -> None:
    """Let jobs take so many steps."""
    request.state.jobs.stop.allowed.release(steps)


@app.get("/left")
async def left(request: Request) -> dict[str, Any]:
    """Count what there is now, this request included."""
    watching = [
        item
        for item in gc.get_objects()
        if isinstance(item, types.AsyncGeneratorType)
        and item.ag_frame is not None  # It is not at its end.
        and item.ag_code.co_name in ("watch", "events")
    ]
    jobs = request.state.jobs
    return {
        "tasks": len(asyncio.all_tasks()),
        "watchers": len(watching),
        "places": jobs.places._value,
        "known": len(jobs.known),
    }
