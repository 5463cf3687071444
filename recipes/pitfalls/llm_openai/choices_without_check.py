# /// script
# [tool.cookbook]
# needs = ["model"]
# ///
"""Wrong: the chunk with the usage has no choice, and a choice need not have content.

Run it:   uvicorn recipes.pitfalls.llm_openai.choices_without_check:app
Try it:   curl -N 'http://127.0.0.1:8000/answer?prompt=Why+is+tea+hot&model=ok'
See it:   curl: (18)
"""

# --8<-- [start:wrong]
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from openai import AsyncOpenAI

app = FastAPI()


async def tokens(prompt: str, model: str) -> AsyncIterator[str]:
    """Take the first choice of every chunk."""
    async with (
        AsyncOpenAI() as client,
        await client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": prompt}],
            stream=True,
            stream_options={"include_usage": True},
        ) as chunks,
    ):
        async for chunk in chunks:
            yield f"{chunk.choices[0].delta.content}"


@app.get("/answer")
async def answer(prompt: str, model: str) -> StreamingResponse:
    """Stream the text of an answer."""
    return StreamingResponse(tokens(prompt, model), media_type="text/plain")


# --8<-- [end:wrong]
