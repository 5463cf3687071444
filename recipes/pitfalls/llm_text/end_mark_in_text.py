# /// script
# [tool.cookbook]
# needs = ["model"]
# ///
"""Wrong: a mark in the text says that the answer is complete; the model writes it too.

Run it:   uvicorn recipes.pitfalls.llm_text.end_mark_in_text:app
Try it:   curl -N 'http://127.0.0.1:8000/answer?prompt=x&model=framing'
See it:   data: [DONE]
"""

# --8<-- [start:wrong]
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from openai import AsyncOpenAI

app = FastAPI()


async def tokens(prompt: str, model: str) -> AsyncIterator[str]:
    """Give each token, and a mark at the end."""
    async with (
        AsyncOpenAI() as client,
        await client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": prompt}], stream=True
        ) as chunks,
    ):
        async for chunk in chunks:
            for choice in chunk.choices:
                yield choice.delta.content or ""
    yield "\n[DONE]"


@app.get("/answer")
async def answer(prompt: str, model: str) -> StreamingResponse:
    """Stream the answer of a model."""
    return StreamingResponse(tokens(prompt, model), media_type="text/plain")


# --8<-- [end:wrong]
