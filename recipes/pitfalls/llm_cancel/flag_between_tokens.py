# /// script
# [tool.cookbook]
# needs = ["model"]
# ///
"""Wrong: the flag is looked at between two tokens, and no second token comes.

Run it:   uvicorn recipes.pitfalls.llm_cancel.flag_between_tokens:app
Try it:   curl -X POST 'http://127.0.0.1:8000/answer?prompt=x&model=stall-after-first'
          curl -X POST http://127.0.0.1:8000/cancel
          curl http://127.0.0.1:8000/writing
See it:   {"stop":true,"writing":true}
"""

# --8<-- [start:wrong]
import asyncio

from fastapi import FastAPI
from openai import AsyncOpenAI

app = FastAPI()
stop = asyncio.Event()
first = asyncio.Event()  # set when the first token has come
tasks = set[asyncio.Task[None]]()


async def write(prompt: str, model: str) -> None:
    """Write an answer, until it is complete or is to stop."""
    async with (
        AsyncOpenAI() as client,
        await client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": prompt}], stream=True
        ) as chunks,
    ):
        async for chunk in chunks:
            if stop.is_set():
                break
            if chunk.choices[0].delta.content:
                first.set()


@app.post("/answer")
async def begin(prompt: str, model: str) -> None:
    """Begin the answer, and return when its first token has come."""
    task = asyncio.create_task(write(prompt, model))
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    await first.wait()


@app.post("/cancel")
async def cancel() -> None:
    """Stop the answer."""
    stop.set()


# --8<-- [end:wrong]
@app.get("/writing")
async def writing() -> dict[str, bool]:
    """Say what is the case a second after it was asked for."""
    if tasks:
        await asyncio.wait(tasks, timeout=1)
    return {"stop": stop.is_set(), "writing": bool(tasks)}
