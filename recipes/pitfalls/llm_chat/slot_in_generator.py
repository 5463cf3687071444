# /// script
# requires-python = ">=3.11"
# dependencies = ["fastapi>=0.165", "openai>=3.52", "uvicorn>=0.54"]
#
# [tool.cookbook]
# needs = ["model"]
# ///
"""Wrong: the generator gives the place back, but it never starts if the call fails.

Run it:   uvicorn recipes.pitfalls.llm_chat.slot_in_generator:app
Try it:   curl -N 'http://127.0.0.1:8000/chat/stream?model=unauthorized' -d ''
          curl -N 'http://127.0.0.1:8000/chat/stream?model=unauthorized' -d ''
          curl -N 'http://127.0.0.1:8000/chat/stream?model=unauthorized' -d ''
          curl -N 'http://127.0.0.1:8000/chat/stream?model=ok' -d ''
See it:   {"detail":"Too many at once."}
"""

# --8<-- [start:wrong]
from collections.abc import AsyncIterator

from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from openai import APIError, AsyncOpenAI, AsyncStream
from openai.types.chat import ChatCompletionChunk as Chunk

app = FastAPI()
open_streams: list[str] = []


async def tokens(chunks: AsyncStream[Chunk]) -> AsyncIterator[str]:
    """Stream, and give the place back in the end."""
    try:
        async with chunks:
            async for chunk in chunks:
                for choice in chunk.choices:
                    yield choice.delta.content or ""
    finally:
        open_streams.pop()


@app.post("/chat/stream")
async def stream(model: str) -> StreamingResponse:
    """Take the place here, because only here a 429 is possible."""
    if len(open_streams) >= 3:
        raise HTTPException(429, "Too many at once.")
    open_streams.append("client")
    try:
        chunks = await AsyncOpenAI().chat.completions.create(
            model=model, messages=[{"role": "user", "content": "Hi"}], stream=True
        )
    except APIError:
        raise HTTPException(502, "The model does not answer.") from None
    return StreamingResponse(tokens(chunks), media_type="text/plain")


# --8<-- [end:wrong]
