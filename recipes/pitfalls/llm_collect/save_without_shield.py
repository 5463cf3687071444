# /// script
# [tool.cookbook]
# needs = ["model"]
# ///
"""Wrong: the clean-up waits for the database, and is cancelled at once.

Run it:   uvicorn recipes.pitfalls.llm_collect.save_without_shield:app
Try it:   curl -N --max-time 1 'http://127.0.0.1:8000/answer?prompt=x&model=long'
          curl http://127.0.0.1:8000/answers
See it:   []
"""

# --8<-- [start:wrong]
import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from openai import AsyncOpenAI

app = FastAPI()
kept: list[str] = []  # stands for a table


async def save(text: str) -> None:
    """Write a row; a database takes a moment for that."""
    await asyncio.sleep(0.01)
    kept.append(text)


async def tokens(prompt: str, model: str) -> AsyncIterator[str]:
    """Stream an answer, and keep it whatever happens."""
    text = ""
    try:
        async with (
            AsyncOpenAI() as client,
            await client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": prompt}], stream=True
            ) as chunks,
        ):
            async for chunk in chunks:
                for choice in chunk.choices:
                    piece = choice.delta.content or ""
                    text += piece
                    yield piece
    finally:
        await save(text)


@app.get("/answer")
async def answer(prompt: str, model: str) -> StreamingResponse:
    """Stream the text of an answer."""
    return StreamingResponse(tokens(prompt, model), media_type="text/plain")


@app.get("/answers")
async def answers() -> list[str]:
    """Give what has been kept."""
    return kept


# --8<-- [end:wrong]
