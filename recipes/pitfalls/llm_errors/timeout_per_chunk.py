# /// script
# requires-python = ">=3.11"
# dependencies = ["fastapi>=0.165", "openai>=3.52", "uvicorn>=0.54"]
#
# [tool.cookbook]
# needs = ["model"]
# ///
"""Wrong: the SDK's timeout is for one read, so an answer that drips never meets it.

Run it:   uvicorn recipes.pitfalls.llm_errors.timeout_per_chunk:app
Try it:   curl -N --max-time 3 'http://127.0.0.1:8000/answer?model=slow-body'
See it:   Operation timed out
"""

# --8<-- [start:wrong]
from fastapi import FastAPI
from openai import AsyncOpenAI

app = FastAPI()


@app.get("/answer")
async def answer(model: str) -> str:
    """Give the whole answer, within a second."""
    text = ""
    async with AsyncOpenAI(timeout=1.0) as client:
        chunks = await client.chat.completions.create(
            model=model, messages=[], stream=True
        )
        async for chunk in chunks:
            for choice in chunk.choices:
                text += choice.delta.content or ""
    return text


# --8<-- [end:wrong]
