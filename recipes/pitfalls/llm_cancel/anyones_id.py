# /// script
# [tool.cookbook]
# needs = ["model"]
# ///
"""Wrong: whoever names an id stops the answer, and the ids are 1, 2, 3.

Run it:   uvicorn recipes.pitfalls.llm_cancel.anyones_id:app
Try it:   curl -X POST 'http://127.0.0.1:8000/answers?prompt=x&model=long&user=ada'
          curl -X POST 'http://127.0.0.1:8000/answers/1/cancel?user=zoe'
See it:   {"stopped":"the answer of ada"}
"""

# --8<-- [start:wrong]
import asyncio

from fastapi import FastAPI, HTTPException
from openai import AsyncOpenAI

app = FastAPI()
owners: list[str] = []
tasks: list[asyncio.Task[None]] = []


async def write(prompt: str, model: str) -> None:
    """Write an answer, which a page then fetches."""
    async with (
        AsyncOpenAI() as client,
        await client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": prompt}], stream=True
        ) as chunks,
    ):
        async for _ in chunks:
            pass


@app.post("/answers")
async def begin(prompt: str, model: str, user: str) -> dict[str, int]:
    """Begin an answer, and give its id."""
    owners.append(user)
    tasks.append(asyncio.create_task(write(prompt, model)))
    return {"id": len(tasks)}


@app.post("/answers/{number}/cancel")
async def cancel(number: int) -> dict[str, str]:
    """Stop an answer; nobody looks at who asks."""
    if not 1 <= number <= len(tasks):
        raise HTTPException(404)
    tasks[number - 1].cancel()
    return {"stopped": f"the answer of {owners[number - 1]}"}


# --8<-- [end:wrong]
