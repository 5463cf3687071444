# /// script
# [tool.cookbook]
# needs = ["model"]
# ///
"""Wrong: the status says what went wrong, but it was sent before anything did.

Run it:   uvicorn recipes.pitfalls.llm_anthropic.overload_by_status:app
Try it:   curl -N 'http://127.0.0.1:8000/answer?prompt=x&model=overloaded-midstream'
See it:   Error 200: do not ask again.
"""

# --8<-- [start:wrong]
from collections.abc import AsyncIterator

from anthropic import APIStatusError, AsyncAnthropic
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

app = FastAPI()


async def tokens(prompt: str, model: str) -> AsyncIterator[str]:
    """Give the text, and at the end of a broken answer say whether to ask again."""
    try:
        async with (
            AsyncAnthropic() as client,
            client.messages.stream(
                model=model,
                messages=[{"role": "user", "content": prompt}],
                max_tokens=1000,
            ) as stream,
        ):
            async for text in stream.text_stream:
                yield text
    except APIStatusError as error:
        if error.status_code in (429, 529):
            yield "\nThe model is busy: ask again later."
        else:
            yield f"\nError {error.status_code}: do not ask again."


@app.get("/answer")
async def answer(prompt: str, model: str) -> StreamingResponse:
    """Stream the text of an answer."""
    return StreamingResponse(tokens(prompt, model), media_type="text/plain")


# --8<-- [end:wrong]
