# /// script
# requires-python = ">=3.11"
# dependencies = ["fastapi>=0.165", "openai>=3.52", "uvicorn>=0.54"]
#
# [tool.cookbook]
# needs = ["model"]
# ///
"""Stream the tokens of a language model as plain text (OpenAI).

Run it:   uvicorn recipes.llm_text:app
Try it:   curl -N 'http://127.0.0.1:8000/answer?prompt=Why+is+tea+hot'
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.responses import StreamingResponse
from openai import AsyncOpenAI, AsyncStream
from openai.types.chat import ChatCompletionChunk

DEFAULT_MODEL = "gpt-5.6-luna"  # a small one; OPENAI_MODEL names another
SILENCE = 30.0  # seconds that the provider may be silent, before and in its answer
LIMIT = 500  # tokens of an answer

Prompt = Annotated[str, Query(min_length=1, max_length=2000)]
Chunks = AsyncStream[ChatCompletionChunk]


# --8<-- [start:opening]
async def open_chunks(request: Request, prompt: Prompt) -> AsyncIterator[Chunks]:
    """Begin the answer while a status can still say no, and close it in any case."""
    if not (os.environ.get("OPENAI_API_KEY") or os.environ.get("OPENAI_BASE_URL")):
        raise HTTPException(503, "No model: run `cookbook llm` and type its exports.")
    client: AsyncOpenAI = request.state.client
    try:
        async with asyncio.timeout(SILENCE):
            chunks = await client.chat.completions.create(
                model=os.environ.get("OPENAI_MODEL") or DEFAULT_MODEL,
                messages=[{"role": "user", "content": prompt}],
                max_completion_tokens=LIMIT,
                stream=True,
            )
    except Exception as error:  # The error's own words may hold anything, even a key.
        logging.getLogger(__name__).error("No answer: %s", type(error))
        raise HTTPException(502, "The provider did not answer.") from None
    async with chunks:
        yield chunks


# --8<-- [end:opening]
# --8<-- [start:producer]
class BrokenOffError(Exception):
    """The answer is not complete; says why, for the log."""


async def tokens(chunks: Chunks) -> AsyncIterator[bytes]:
    """Give the text of each chunk, in UTF-8.

    Raises:
        BrokenOffError: the rest will not come. Text has no other way to say so.
    """
    complete = False
    try:
        async for chunk in chunks:
            for choice in chunk.choices:
                text = choice.delta.content or choice.delta.refusal
                if text:  # The first chunk and the last have none.
                    yield text.encode()
                if choice.finish_reason:
                    complete = True
    except Exception as error:  # The SDK checks nothing: a chunk may hold anything.
        raise BrokenOffError(type(error)) from None
    if not complete:  # A stream that was cut ends as a complete one does.
        raise BrokenOffError("There is no finish_reason.")


# --8<-- [end:producer]
# --8<-- [start:route]
@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """Keep one client, with its connections, as long as the application runs."""
    key = os.environ.get("OPENAI_API_KEY") or "none"  # The SDK insists on one.
    async with AsyncOpenAI(api_key=key, timeout=SILENCE, max_retries=0) as client:
        yield {"client": client}


app = FastAPI(title="llm_text", lifespan=lifespan)
HEADERS = {
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx sends each chunk on at once.
    "X-Content-Type-Options": "nosniff",  # Chromium too, in an address that you open.
}


class TextStream(StreamingResponse):
    """Text in UTF-8; Starlette adds the charset to every `text/` type."""

    media_type = "text/plain"


@app.get("/answer", response_class=TextStream)
async def answer(chunks: Annotated[Chunks, Depends(open_chunks)]) -> TextStream:
    """Send each token as it comes, and nothing else."""
    return TextStream(tokens(chunks), headers=HEADERS)


# --8<-- [end:route]
if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8000)
