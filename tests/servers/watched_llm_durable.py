"""The recipe, with a count of what its readers hold.

The garbage collector is off: what is counted is what the recipe itself lets go.
"""

import asyncio
import gc

from dbos._dbos import _get_dbos_instance

from recipes import llm_durable

gc.disable()
app = llm_durable.app


@app.get("/left")
async def left() -> dict[str, int]:
    """Count the readers that DBOS wakes, and the tasks."""
    waiting = _get_dbos_instance()._sys_db.streams_map.snapshot()
    readers = sum(signal.waiter_count() for _, _, signal in waiting)
    return {"readers": readers, "tasks": len(asyncio.all_tasks())}
