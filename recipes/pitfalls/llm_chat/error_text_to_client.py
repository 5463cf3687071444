# /// script
# requires-python = ">=3.11"
# dependencies = ["fastapi>=0.165", "openai>=3.52", "uvicorn>=0.54"]
#
# [tool.cookbook]
# needs = ["model"]
# ///
"""Wrong: the text of an exception goes to the client, with what only you may know.

Run it:   uvicorn recipes.pitfalls.llm_chat.error_text_to_client:app
Try it:   curl -N 'http://127.0.0.1:8000/chat/stream?model=unauthorized' -d ''
See it:   The key is wrong
"""

# --8<-- [start:wrong]
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.sse import EventSourceResponse, ServerSentEvent
from openai import AsyncOpenAI

app = FastAPI()


@app.post("/chat/stream", response_class=EventSourceResponse)
async def stream(model: str) -> AsyncIterator[ServerSentEvent]:
    """Tell the client all about the failure."""
    try:
        async with AsyncOpenAI() as client:
            await client.chat.completions.create(model=model, messages=[])
    except Exception as error:
        yield ServerSentEvent(event="failed", data={"message": str(error)})


# --8<-- [end:wrong]
