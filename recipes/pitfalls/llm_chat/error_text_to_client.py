"""Wrong: what an exception says is for you, and may hold what only you may know."""

import os
from collections.abc import AsyncIterator
from typing import Any

import openai
from fastapi import FastAPI
from fastapi.sse import EventSourceResponse, ServerSentEvent

app = FastAPI()


# --8<-- [start:wrong]
@app.post("/chat/stream", response_class=EventSourceResponse)
async def stream(asked: dict[str, Any]) -> AsyncIterator[ServerSentEvent]:
    """Tell the client all about the failure."""
    try:
        async with openai.AsyncOpenAI() as client:
            model = os.environ["OPENAI_MODEL"]
            await client.chat.completions.create(model=model, **asked)
    except Exception as error:
        yield ServerSentEvent(event="failed", data={"message": str(error)})


# --8<-- [end:wrong]
