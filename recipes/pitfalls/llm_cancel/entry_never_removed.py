# /// script
# [tool.cookbook]
# needs = ["model"]
# ///
"""Wrong: only an answer that comes to its end is taken out of the table.

Run it:   uvicorn recipes.pitfalls.llm_cancel.entry_never_removed:app
Try it:   curl -N --max-time 1 'http://127.0.0.1:8000/answer?prompt=Tell+me&model=long'
          curl -N --max-time 1 'http://127.0.0.1:8000/answer?prompt=Tell+me&model=long'
          curl http://127.0.0.1:8000/running
See it:   {"running":2}
"""

# --8<-- [start:wrong]
import secrets
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from openai import AsyncOpenAI

app = FastAPI()
running: dict[str, str] = {}  # the prompt of each answer, by its id


async def tokens(prompt: str, model: str) -> AsyncIterator[str]:
    """Stream an answer that can be found while it is written."""
    number = secrets.token_hex(8)
    running[number] = prompt
    async with (
        AsyncOpenAI() as client,
        await client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": prompt}], stream=True
        ) as chunks,
    ):
        async for chunk in chunks:
            for choice in chunk.choices:
                yield choice.delta.content or ""
    del running[number]


@app.get("/answer")
async def answer(prompt: str, model: str) -> StreamingResponse:
    """Stream the text of an answer."""
    return StreamingResponse(tokens(prompt, model), media_type="text/plain")


# --8<-- [end:wrong]
@app.get("/running")
async def count() -> dict[str, int]:
    """Count the entries."""
    return {"running": len(running)}
