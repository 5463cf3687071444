# /// script
# [tool.cookbook]
# needs = ["model"]
# ///
"""Wrong: a task reads the model's answer, and nobody stops it when the client leaves.

Run it:   uvicorn recipes.pitfalls.llm_openai.stream_never_closed:app
Try it:   curl -N --max-time 2 'http://127.0.0.1:8000/answer?prompt=Tell+me&model=long'
          curl http://127.0.0.1:8000/running
See it:   {"running":1}
"""

# --8<-- [start:wrong]
import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.sse import EventSourceResponse, ServerSentEvent
from openai import AsyncOpenAI

app = FastAPI()
running = set[asyncio.Task[None]]()  # A task that nobody holds may be collected.


async def write(prompt: str, model: str, tokens: asyncio.Queue[str | None]) -> None:
    """Read the whole answer, whoever still wants it; None is its end."""
    async with (
        AsyncOpenAI() as client,
        await client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": prompt}], stream=True
        ) as chunks,
    ):
        async for chunk in chunks:
            for choice in chunk.choices:
                tokens.put_nowait(choice.delta.content or "")
    tokens.put_nowait(None)


@app.get("/answer", response_class=EventSourceResponse)
async def answer(prompt: str, model: str) -> AsyncIterator[ServerSentEvent]:
    """Send what the task reads."""
    tokens = asyncio.Queue[str | None]()
    task = asyncio.create_task(write(prompt, model, tokens))
    running.add(task)
    task.add_done_callback(running.discard)
    text = await tokens.get()
    while text is not None:
        yield ServerSentEvent(data=text)
        text = await tokens.get()


# --8<-- [end:wrong]
@app.get("/running")
async def count() -> dict[str, int]:
    """Count the answers that are being written."""
    return {"running": len(running)}
