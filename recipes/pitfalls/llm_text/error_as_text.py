# /// script
# [tool.cookbook]
# needs = ["model"]
# ///
"""Wrong: an error is sent as text, so it becomes a part of the model's answer.

Run it:   uvicorn recipes.pitfalls.llm_text.error_as_text:app
Try it:   curl -N 'http://127.0.0.1:8000/answer?prompt=x&model=overloaded-midstream'
See it:   Tea is[Error: The server had an error while it was answering.]
"""

# --8<-- [start:wrong]
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from openai import AsyncOpenAI

app = FastAPI()


async def tokens(prompt: str, model: str) -> AsyncIterator[str]:
    """Give each token, and the error too if there is one."""
    try:
        async with (
            AsyncOpenAI() as client,
            await client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": prompt}], stream=True
            ) as chunks,
        ):
            async for chunk in chunks:
                for choice in chunk.choices:
                    yield choice.delta.content or ""
    except Exception as error:
        yield f"[Error: {error}]"


@app.get("/answer")
async def answer(prompt: str, model: str) -> StreamingResponse:
    """Stream the answer of a model."""
    return StreamingResponse(tokens(prompt, model), media_type="text/plain")


# --8<-- [end:wrong]
