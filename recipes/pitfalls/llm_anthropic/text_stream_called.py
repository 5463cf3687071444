# /// script
# [tool.cookbook]
# needs = ["model"]
# ///
"""Wrong: `text_stream` is called like a method, but it is an attribute.

Run it:   uvicorn recipes.pitfalls.llm_anthropic.text_stream_called:app
Try it:   curl -N 'http://127.0.0.1:8000/answer?prompt=Why+is+tea+hot&model=ok'
See it:   curl: (18)
"""

# --8<-- [start:wrong]
from collections.abc import AsyncIterator
from typing import Any

from anthropic import AsyncAnthropic
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

app = FastAPI()


async def tokens(prompt: str, model: str) -> AsyncIterator[str]:
    """Give the text of an answer, piece by piece."""
    async with (
        AsyncAnthropic() as client,
        client.messages.stream(
            model=model,
            messages=[{"role": "user", "content": prompt}],
            max_tokens=1000,
        ) as stream,
    ):
        answer: Any = stream  # With its own type, a type checker sees the mistake.
        async for text in answer.text_stream():
            yield text


@app.get("/answer")
async def answer(prompt: str, model: str) -> StreamingResponse:
    """Stream the text of an answer."""
    return StreamingResponse(tokens(prompt, model), media_type="text/plain")


# --8<-- [end:wrong]
