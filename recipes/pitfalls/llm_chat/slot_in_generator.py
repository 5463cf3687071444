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

app = FastAPI()
open_streams: list[str] = []


async def begin(model: str) -> list[str]:
    """Stand for the call of a provider, which may refuse."""
    if model == "unauthorized":
        raise HTTPException(502, "The model does not answer.")
    return ["Tea", " is", " hot."]


async def tokens(chunks: list[str]) -> AsyncIterator[str]:
    """Stream, and give the place back in the end."""
    try:
        for chunk in chunks:
            yield chunk
    finally:
        open_streams.pop()


@app.post("/chat/stream")
async def stream(model: str) -> StreamingResponse:
    """Take the place here, because only here a 429 is possible."""
    if len(open_streams) >= 3:
        raise HTTPException(429, "Too many at once.")
    open_streams.append("client")
    chunks = await begin(model)
    return StreamingResponse(tokens(chunks), media_type="text/plain")


# --8<-- [end:wrong]
