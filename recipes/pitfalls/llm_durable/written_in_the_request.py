"""Wrong: the request for the events writes the answer, so each reader gets another one.

Run it:   uvicorn recipes.pitfalls.llm_durable.written_in_the_request:app
Try it:   curl -N --max-time 0.3 http://127.0.0.1:8000/events
          curl -N http://127.0.0.1:8000/events
See it:   data: {"answer": 2}
"""

# --8<-- [start:wrong]
import asyncio
from collections.abc import AsyncIterator
from itertools import count

from fastapi import FastAPI
from fastapi.sse import EventSourceResponse, ServerSentEvent

app = FastAPI()
answers = count(1)


async def ask_model() -> AsyncIterator[str]:
    """Stand in for a model, which writes another answer each time, and costs money."""
    for word in ("Tea", " is", " hot"):
        yield word
        await asyncio.sleep(0.2)


@app.get("/events", response_class=EventSourceResponse)
async def events() -> AsyncIterator[ServerSentEvent]:
    """Ask the model for whoever asks for the events."""
    yield ServerSentEvent(data={"answer": next(answers)})
    async for word in ask_model():
        yield ServerSentEvent(data={"text": word})


# --8<-- [end:wrong]
