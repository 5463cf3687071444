"""Wrong: when a slow client leaves, nobody closes the provider's stream."""

from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.sse import EventSourceResponse, ServerSentEvent
from openai import AsyncOpenAI

app = FastAPI()


# --8<-- [start:wrong]
@app.get("/answer", response_class=EventSourceResponse)
async def answer(prompt: str, model: str) -> AsyncIterator[ServerSentEvent]:
    """Open the stream in a block that this generator may never leave."""
    async with (
        AsyncOpenAI() as client,
        await client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": prompt}], stream=True
        ) as chunks,
    ):
        async for chunk in chunks:
            for choice in chunk.choices:
                yield ServerSentEvent(data=choice.delta.content or "")


# --8<-- [end:wrong]
