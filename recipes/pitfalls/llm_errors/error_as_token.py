# /// script
# requires-python = ">=3.11"
# dependencies = ["fastapi>=0.165", "openai>=3.52", "uvicorn>=0.54"]
#
# [tool.cookbook]
# needs = ["model"]
# ///
"""Wrong: an error is sent as one more token, and becomes a part of the answer.

Run it:   uvicorn recipes.pitfalls.llm_errors.error_as_token:app
Try it:   curl -N 'http://127.0.0.1:8000/answer?model=overloaded-midstream'
See it:   data: "Sorry, something went wrong."
"""

# --8<-- [start:wrong]
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.sse import EventSourceResponse, ServerSentEvent
from openai import AsyncOpenAI, OpenAIError

app = FastAPI()


@app.get("/answer", response_class=EventSourceResponse)
async def answer(model: str) -> AsyncIterator[ServerSentEvent]:
    """Send the tokens, and say so if something fails."""
    try:
        async with AsyncOpenAI() as client:
            chunks = await client.chat.completions.create(
                model=model, messages=[], stream=True
            )
            async for chunk in chunks:
                for choice in chunk.choices:
                    yield ServerSentEvent(data=choice.delta.content or "")
    except OpenAIError:
        yield ServerSentEvent(data="Sorry, something went wrong.")


# --8<-- [end:wrong]
