# /// script
# [tool.cookbook]
# needs = ["model"]
# ///
"""Wrong: `break` leaves the loop, and the provider's stream stays open behind it.

Run it:   uvicorn recipes.pitfalls.llm_cancel.break_leaves_it_open:app
Try it:   curl 'http://127.0.0.1:8000/answer?prompt=x&model=long&tokens=3'
          curl http://127.0.0.1:8000/open
See it:   {"open":1}
"""

# --8<-- [start:wrong]
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from openai import AsyncOpenAI, AsyncStream
from openai.types.chat import ChatCompletionChunk

app = FastAPI()
answers: list[AsyncStream[ChatCompletionChunk]] = []  # those of this user


async def write(prompt: str, model: str, tokens: int) -> AsyncIterator[str]:
    """Stream so many tokens, then stop."""
    client = AsyncOpenAI()
    chunks = await client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": prompt}], stream=True
    )
    answers.append(chunks)
    async for chunk in chunks:
        for choice in chunk.choices:
            yield choice.delta.content or ""
        tokens -= 1
        if tokens < 0:
            break


@app.get("/answer")
async def answer(prompt: str, model: str, tokens: int) -> StreamingResponse:
    """Stream the text of an answer."""
    return StreamingResponse(write(prompt, model, tokens), media_type="text/plain")


# --8<-- [end:wrong]
@app.get("/open")
async def count() -> dict[str, int]:
    """Count the connections to the provider that are still open."""
    return {"open": sum(not chunks.response.is_closed for chunks in answers)}
