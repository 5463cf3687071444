# /// script
# requires-python = ">=3.11"
# dependencies = ["fastapi>=0.165", "openai>=3.52", "uvicorn>=0.54"]
#
# [tool.cookbook]
# needs = ["model"]
# ///
"""Stream the tokens of a language model as server-sent events (OpenAI).

Run it:   uvicorn recipes.llm_openai:app
Try it:   curl -N 'http://127.0.0.1:8000/answer?prompt=Why+is+tea+hot'
"""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, get_args

import openai
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from openai.types import ChatModel, CompletionUsage, chat
from pydantic import BaseModel

SILENCE = 30.0  # seconds without a byte after which the provider counts as dead
Prompt = Annotated[str, Query(min_length=1, max_length=2000)]
Chunks = openai.AsyncStream[chat.ChatCompletionChunk]


class Start(BaseModel):
    """The first event: the model has begun to answer."""

    id: str
    model: str


class Token(BaseModel):
    """A piece of the answer, with all its spaces and line ends."""

    text: str


class Done(BaseModel):
    """The last event of an answer that is complete."""

    finish_reason: str
    usage: CompletionUsage | None


class Failed(BaseModel):
    """The last event of an answer that is not."""

    type: str
    message: str
    retryable: bool


# --8<-- [start:producer]
async def answer(chunks: Chunks) -> AsyncIterator[Start | Token | Done | Failed]:
    """Turn the provider's chunks into events; the last one tells how it went."""
    start, finish_reason, usage, failure = None, None, None, "truncated"
    try:
        async for chunk in chunks:
            if not start:
                yield (start := Start(id=chunk.id, model=chunk.model))
            usage = chunk.usage or usage
            for choice in chunk.choices:  # The chunk with the usage has none.
                finish_reason = choice.finish_reason or finish_reason
                if text := choice.delta.content or choice.delta.refusal:  # Often None.
                    yield Token(text=text)
    except Exception as error:  # Whatever it was, the reader is told, not cut off.
        logging.getLogger(__name__).error("The answer broke off: %s", type(error))
        failure, finish_reason = "provider", None
    failed = Failed(type=failure, message="The answer broke off.", retryable=True)
    # A stream that was cut ends like a complete one, but for this field.
    yield Done(finish_reason=finish_reason, usage=usage) if finish_reason else failed


# --8<-- [end:producer]
# --8<-- [start:routes]
@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """Keep one client, with its connections, as long as the application runs."""
    key = os.environ.get("OPENAI_API_KEY") or "none"  # The SDK insists on one.
    async with openai.AsyncOpenAI(api_key=key, timeout=SILENCE) as client:
        yield {"client": client}


app = FastAPI(title="llm_openai", lifespan=lifespan)


async def open_chunks(request: Request, prompt: Prompt) -> AsyncIterator[Chunks]:
    """Begin the answer while a status can still say no, and close it in any case."""
    if not any(map(os.environ.get, ("OPENAI_API_KEY", "OPENAI_BASE_URL"))):
        raise HTTPException(503, "No model: run `cookbook llm`, or set OPENAI_API_KEY.")
    client: openai.AsyncOpenAI = request.state.client
    try:
        chunks = await client.chat.completions.create(
            model=os.environ.get("OPENAI_MODEL") or get_args(ChatModel)[0],
            messages=[{"role": "user", "content": prompt}],
            stream=True,
            stream_options={"include_usage": True},
        )
    except openai.APIError:
        raise HTTPException(502, "The provider did not answer.") from None
    async with chunks:
        yield chunks


@app.get("/answer", response_class=EventSourceResponse)
async def stream_answer(
    chunks: Annotated[Chunks, Depends(open_chunks)],
) -> AsyncIterator[ServerSentEvent]:
    """Send each event under its own name, with JSON as its data."""
    async for event in answer(chunks):
        yield ServerSentEvent(event=type(event).__name__.lower(), data=event)


# --8<-- [end:routes]
if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8000)
