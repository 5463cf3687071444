# /// script
# [tool.cookbook]
# needs = ["model"]
# ///
"""Wrong: plain tokens are called an event stream, so a browser finds no event in them.

Run it:   uvicorn recipes.pitfalls.llm_text.event_stream_without_events:app
Try it:   curl -N -i 'http://127.0.0.1:8000/answer?prompt=x&model=ok'
See it:   content-type: text/event-stream
"""

# --8<-- [start:wrong]
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from openai import AsyncOpenAI

app = FastAPI()


async def tokens(prompt: str, model: str) -> AsyncIterator[str]:
    """Give each token as it is."""
    async with (
        AsyncOpenAI() as client,
        await client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": prompt}], stream=True
        ) as chunks,
    ):
        async for chunk in chunks:
            for choice in chunk.choices:
                yield choice.delta.content or ""


@app.get("/answer")
async def answer(prompt: str, model: str) -> StreamingResponse:
    """Stream the answer under a media type that promises events."""
    return StreamingResponse(tokens(prompt, model), media_type="text/event-stream")


# --8<-- [end:wrong]
