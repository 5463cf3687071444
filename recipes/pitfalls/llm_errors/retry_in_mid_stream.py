# /// script
# requires-python = ">=3.11"
# dependencies = ["fastapi>=0.165", "openai>=3.52", "stamina>=26.1", "uvicorn>=0.54"]
#
# [tool.cookbook]
# needs = ["model"]
# ///
"""Wrong: the generator is tried again after it has sent tokens, so they come twice.

Run it:   uvicorn recipes.pitfalls.llm_errors.retry_in_mid_stream:app
Try it:   curl -N 'http://127.0.0.1:8000/answer?model=overloaded-midstream'
See it:   Tea isTea is
"""

# --8<-- [start:wrong]
from collections.abc import AsyncIterator

import openai
import stamina
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

app = FastAPI()


@stamina.retry(on=openai.APIError, attempts=2)
async def tokens(model: str) -> AsyncIterator[str]:
    """Ask for an answer, twice if it fails."""
    async with openai.AsyncOpenAI() as client:
        chunks = await client.chat.completions.create(
            model=model, messages=[], stream=True
        )
        async for chunk in chunks:
            for choice in chunk.choices:
                yield choice.delta.content or ""


@app.get("/answer")
async def answer(model: str) -> StreamingResponse:
    """Send the tokens as text."""
    return StreamingResponse(tokens(model), media_type="text/plain")


# --8<-- [end:wrong]
