# /// script
# [tool.cookbook]
# needs = ["model"]
# ///
"""Wrong: a usage that never came is booked as no tokens at all.

Run it:   uvicorn recipes.pitfalls.llm_collect.usage_read_as_zero:app
Try it:   curl -N --max-time 1 'http://127.0.0.1:8000/answer?prompt=x&model=long'
          curl http://127.0.0.1:8000/answers
See it:   "completion_tokens":0
"""

# --8<-- [start:wrong]
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from openai import AsyncOpenAI

app = FastAPI()
bill: list[dict[str, int]] = []  # stands for a table


async def tokens(prompt: str, model: str) -> AsyncIterator[str]:
    """Stream an answer, and book what it has cost."""
    usage = None
    try:
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
                usage = chunk.usage or usage
                for choice in chunk.choices:
                    yield choice.delta.content or ""
    finally:
        bill.append({"completion_tokens": usage.completion_tokens if usage else 0})


@app.get("/answer")
async def answer(prompt: str, model: str) -> StreamingResponse:
    """Stream the text of an answer."""
    return StreamingResponse(tokens(prompt, model), media_type="text/plain")


@app.get("/answers")
async def answers() -> list[dict[str, int]]:
    """Give what has been booked."""
    return bill


# --8<-- [end:wrong]
