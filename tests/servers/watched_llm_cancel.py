"""The recipe llm_cancel, and what it still holds."""

import asyncio

from fastapi import FastAPI, Request

from recipes.llm_cancel import app as recipe
from recipes.llm_cancel import lifespan

app = FastAPI(lifespan=lifespan)


@app.get("/held")
async def held(request: Request) -> dict[str, int]:
    """Count the entries and the tasks of this process."""
    running = request.state.table.running
    return {"entries": len(running), "tasks": len(asyncio.all_tasks())}


app.mount("/", recipe)
