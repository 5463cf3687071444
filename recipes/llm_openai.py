# /// script
# requires-python = ">=3.11"
# dependencies = ["anyio>=4.16", "fastapi>=0.165", "openai>=3.52", "uvicorn>=0.54"]
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
import traceback
from asyncio import FIRST_COMPLETED, create_task, wait
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import openai
import uvicorn
from anyio import BrokenResourceError
from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletionChunk
from pydantic import BaseModel, Field

DEFAULT_MODEL = "gpt-5.6-luna"  # a small one; OPENAI_MODEL names another
SILENCE = 30.0  # seconds that the provider may be silent, before and in its answer

# With a limit Pydantic also refuses half a surrogate pair, which UTF-8 cannot hold.
Text = Annotated[str, Field(max_length=1_000_000)]
Prompt = Annotated[str, Query(min_length=1, max_length=2000)]
Chunks = openai.AsyncStream[ChatCompletionChunk]


# --8<-- [start:events]
class Start(BaseModel):
    """The first event: the model has begun to answer."""

    id: Text
    model: Text


class Token(BaseModel):
    """A piece of the answer, with all its spaces and line ends."""

    text: Text


class Done(BaseModel, validate_assignment=True):
    """The last event of an answer that is complete."""

    finish_reason: Text
    usage: CompletionUsage | None


class Failed(BaseModel):
    """The last event of an answer that is not; says whether asking again may help."""

    type: str
    message: str = "The answer broke off."
    retryable: bool = True


NAMES = {Start: "start", Token: "token", Done: "done", Failed: "failed"}


# --8<-- [end:events]
# --8<-- [start:asking]
async def ask(client: openai.AsyncOpenAI, prompt: str) -> Chunks:
    """Ask the provider; return as soon as the headers of its response are here.

    Raises:
        HTTPException: it refused or failed, told in our words and not in its own.
    """
    try:
        return await client.chat.completions.create(
            model=os.environ.get("OPENAI_MODEL") or DEFAULT_MODEL,
            messages=[{"role": "user", "content": prompt}],
            stream=True,
            stream_options={"include_usage": True},
        )
    except openai.RateLimitError:
        raise HTTPException(429, "The model is busy.", {"Retry-After": "60"}) from None
    except (openai.AuthenticationError, openai.PermissionDeniedError):
        raise HTTPException(503, "The provider does not accept the key.") from None
    except Exception as error:
        logging.getLogger(__name__).error("No answer: %s", type(error))
        raise HTTPException(502, "The provider did not answer.") from None


# --8<-- [end:asking]
# --8<-- [start:opening]
async def client_leaves(request: Request) -> None:
    """Wait until the client has left; the server's last message says so (ASGI)."""
    while (await request.receive())["type"] != "http.disconnect":
        pass  # Before it comes the request's body, which is empty.


async def open_chunks(request: Request, prompt: Prompt) -> AsyncIterator[Chunks]:
    """Begin the answer while a status can still say no, and close it in any case."""
    if not (os.environ.get("OPENAI_API_KEY") or os.environ.get("OPENAI_BASE_URL")):
        raise HTTPException(503, "No model: run `cookbook llm`, or set OPENAI_API_KEY.")
    asking = create_task(ask(request.state.client, prompt))
    leaving = create_task(client_leaves(request))
    try:
        await wait([asking, leaving], timeout=SILENCE, return_when=FIRST_COMPLETED)
        if not asking.done():
            raise HTTPException(502, "The provider did not answer.")
    finally:
        leaving.cancel()
        asking.cancel()  # If it still waits, this closes the provider's connection.
    try:
        async with asking.result() as chunks:
            yield chunks
    except* BrokenResourceError:
        pass  # FastAPI's, when a client leaves that had stopped reading.


# --8<-- [end:opening]
# --8<-- [start:producer]
async def answer(chunks: Chunks) -> AsyncIterator[Start | Token | Done | Failed]:
    """Turn the provider's chunks into events; the last one tells how it went."""
    start = None
    done = Done(finish_reason="", usage=None)  # It is completed as the chunks come.
    try:
        async for chunk in chunks:
            if start is None:
                start = Start(id=chunk.id, model=chunk.model)
                yield start
            if chunk.usage:
                fields = chunk.usage.to_dict(warnings=False)
                done.usage = CompletionUsage.model_validate(fields, extra="ignore")
            for choice in chunk.choices:  # The chunk with the usage has none.
                if text := choice.delta.content or choice.delta.refusal:  # Often none.
                    yield Token(text=text)
                done.finish_reason = choice.finish_reason or done.finish_reason
        if done.finish_reason:
            yield done
        else:  # A stream that was cut ends as a complete one does: without an error.
            yield Failed(type="truncated")
    except Exception as error:  # The SDK checks nothing: a chunk may hold anything.
        frames = "".join(traceback.format_tb(error.__traceback__))
        logging.getLogger(__name__).error("Broke off: %s\n%s", type(error), frames)
        yield Failed(type="provider", retryable=isinstance(error, openai.APIError))


# --8<-- [end:producer]
# --8<-- [start:routes]
@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """Keep one client, with its connections, as long as the application runs."""
    key = os.environ.get("OPENAI_API_KEY") or "none"  # The SDK insists on one.
    async with openai.AsyncOpenAI(api_key=key, timeout=SILENCE, max_retries=0) as sdk:
        yield {"client": sdk}


app = FastAPI(title="llm_openai", lifespan=lifespan)
Opened = Annotated[Chunks, Depends(open_chunks)]
# Without it /openapi.json would not know the models.
EVENTS: dict[int | str, Any] = {200: {"model": Start | Token | Done | Failed}}


@app.get("/answer", response_class=EventSourceResponse, responses=EVENTS)
async def stream_answer(chunks: Opened) -> AsyncIterator[ServerSentEvent]:
    """Send each event under its name, with its fields as JSON."""
    async for event in answer(chunks):
        yield ServerSentEvent(event=NAMES[type(event)], data=event)


# --8<-- [end:routes]
if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8000)
