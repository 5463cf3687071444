# /// script
# [tool.cookbook]
# needs = ["model"]
# ///
"""Wrong: a token that has line ends is cut up, lost, or an event of its own.

Run it:   uvicorn recipes.pitfalls.llm_openai.token_as_raw_data:app
Try it:   curl -N 'http://127.0.0.1:8000/answer?prompt=x&model=newlines'
          curl -N 'http://127.0.0.1:8000/answer?prompt=x&model=framing'
See it:   event: admin
"""

# --8<-- [start:wrong]
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from openai import AsyncOpenAI

app = FastAPI()


async def events(prompt: str, model: str) -> AsyncIterator[str]:
    """Put each token behind `data:` as it is."""
    async with (
        AsyncOpenAI() as client,
        await client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": prompt}], stream=True
        ) as chunks,
    ):
        async for chunk in chunks:
            for choice in chunk.choices:
                yield f"data: {choice.delta.content or ''}\n\n"
    yield "data: [DONE]\n\n"


@app.get("/answer")
async def answer(prompt: str, model: str) -> StreamingResponse:
    """Stream the answer of a model."""
    return StreamingResponse(events(prompt, model), media_type="text/event-stream")


# --8<-- [end:wrong]
