# /// script
# [tool.cookbook]
# needs = ["model"]
# ///
"""Wrong: whoever waits for an exception never sees an error of the Responses API.

Run it:   uvicorn recipes.pitfalls.llm_openai.responses_error_unseen:app
Try it:   curl -N 'http://127.0.0.1:8000/answer?prompt=x&model=overloaded-midstream'
See it:   Tea is [complete]
"""

# --8<-- [start:wrong]
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from openai import AsyncOpenAI, OpenAIError

app = FastAPI()


async def tokens(prompt: str, model: str) -> AsyncIterator[str]:
    """Give the text, and say at the end whether it is complete."""
    try:
        async with (
            AsyncOpenAI() as client,
            await client.responses.create(
                model=model, input=prompt, stream=True
            ) as events,
        ):
            async for event in events:
                if event.type == "response.output_text.delta":
                    yield event.delta
        yield " [complete]"
    except OpenAIError:
        yield " [broken off]"


@app.get("/answer")
async def answer(prompt: str, model: str) -> StreamingResponse:
    """Stream the text of an answer."""
    return StreamingResponse(tokens(prompt, model), media_type="text/plain")


# --8<-- [end:wrong]
