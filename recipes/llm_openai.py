# /// script
# requires-python = ">=3.11"
# dependencies = ["anyio>=4.16", "fastapi>=0.165", "openai>=3.52", "uvicorn>=0.54"]
#
# [tool.cookbook]
# application = true
# needs = ["model"]
# ///
"""Stream the tokens of a language model as server-sent events (OpenAI).

Run it:   uvicorn recipes.llm_openai:app
Try it:   curl -N 'http://127.0.0.1:8000/answer?prompt=Why+is+tea+hot'
          curl -N 'http://127.0.0.1:8000/responses?prompt=Why+is+tea+hot'
"""

import logging
import os
import traceback
from asyncio import FIRST_COMPLETED, create_task, wait
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any

import openai
import uvicorn
from anyio import BrokenResourceError
from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletionChunk
from openai.types.completion_usage import PromptTokensDetails
from openai.types.responses import ResponseStreamEvent, ResponseUsage
from pydantic import BaseModel, Field

DEFAULT_MODEL = "gpt-5.6-luna"  # a small one; OPENAI_MODEL names another
SILENCE = 30.0  # seconds that the provider may be silent, before and in its answer

# With a limit Pydantic also refuses half a surrogate pair, which UTF-8 cannot hold.
Text = Annotated[str, Field(max_length=1_000_000)]
Prompt = Annotated[str, Query(min_length=1, max_length=2000)]
Chunks = openai.AsyncStream[ChatCompletionChunk]
Events = openai.AsyncStream[ResponseStreamEvent]


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
Event = Start | Token | Done | Failed


# --8<-- [end:events]
# --8<-- [start:opening]
def model_name() -> str:
    """Say which model to ask for."""
    return os.environ.get("OPENAI_MODEL") or DEFAULT_MODEL


async def create_chat(client: openai.AsyncOpenAI, prompt: str) -> Chunks:
    """Ask for chat completions."""
    return await client.chat.completions.create(
        model=model_name(),
        messages=[{"role": "user", "content": prompt}],
        stream=True,
        stream_options={"include_usage": True},
    )


async def create_response(client: openai.AsyncOpenAI, prompt: str) -> Events:
    """Ask the Responses API, which would keep the answer if it were not told not to."""
    return await client.responses.create(
        model=model_name(), input=prompt, stream=True, store=False
    )


Stream = Chunks | Events
Create = Callable[[openai.AsyncOpenAI, str], Coroutine[Any, Any, Stream]]


async def ask(create: Create, client: openai.AsyncOpenAI, prompt: str) -> Stream:
    """Ask the provider; return as soon as the headers of its response are here.

    Raises:
        HTTPException: it refused or failed, told in our words and not in its own.
    """
    try:
        return await create(client, prompt)
    except openai.RateLimitError:
        raise HTTPException(429, "The model is busy.", {"Retry-After": "60"}) from None
    except (openai.AuthenticationError, openai.PermissionDeniedError):
        raise HTTPException(503, "The provider does not accept the key.") from None
    except Exception as error:
        logging.getLogger(__name__).error("No answer: %s", type(error))
        raise HTTPException(502, "The provider did not answer.") from None


async def client_leaves(request: Request) -> None:
    """Wait until the client has left; the server's last message says so (ASGI)."""
    while (await request.receive())["type"] != "http.disconnect":
        pass  # Before it comes the request's body, which is empty.


async def open_chunks(
    create: Create, request: Request, prompt: Prompt
) -> AsyncIterator[Stream]:
    """Begin the answer while a status can still say no, and close it in any case."""
    if not (os.environ.get("OPENAI_API_KEY") or os.environ.get("OPENAI_BASE_URL")):
        raise HTTPException(503, "No model: run `cookbook llm` and type its exports.")
    asking = create_task(ask(create, request.state.client, prompt))
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
def failed(error: Exception) -> Failed:
    """Log what kind of error it was and where it arose; its words go nowhere."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    logging.getLogger(__name__).error("Broke off: %s\n%s", type(error), frames)
    return Failed(type="provider", retryable=isinstance(error, openai.APIError))


async def answer(chunks: Chunks) -> AsyncIterator[Event]:
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
        yield failed(error)


# --8<-- [end:producer]
# --8<-- [start:responses]
REASONS = {"max_output_tokens": "length"}  # What chat completions call it.


def bill(usage: ResponseUsage | None) -> CompletionUsage | None:
    """Count the tokens under the names that chat completions have for them."""
    if usage is None:
        return None
    cached = usage.input_tokens_details.cached_tokens
    return CompletionUsage(
        prompt_tokens=usage.input_tokens,
        completion_tokens=usage.output_tokens,
        total_tokens=usage.total_tokens,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=cached),
    )


async def answer_in_events(events: Events) -> AsyncIterator[Event]:
    """Turn the events of the Responses API into ours; each has a type that names it."""
    start = None
    done = None
    try:
        async for event in events:
            if event.type == "response.created" and start is None:
                model = event.response.model or model_name()  # Some leave it out.
                start = Start(id=event.response.id, model=model)
                yield start
            elif event.type in ("response.output_text.delta", "response.refusal.delta"):
                yield Token(text=event.delta)
            elif event.type == "response.completed":
                usage = bill(event.response.usage)
                done = Done(finish_reason="stop", usage=usage)
            elif event.type == "response.incomplete":
                reason = "incomplete"
                details = event.response.incomplete_details
                if details and details.reason:
                    reason = REASONS.get(details.reason, details.reason)
                usage = bill(event.response.usage)
                done = Done(finish_reason=reason, usage=usage)
            elif event.type in ("error", "response.failed"):
                # The SDK hands it over like any other event, and raises nothing.
                raise openai.APIError(event.type, events.response.request, body=None)
        if done:
            yield done
        else:
            yield Failed(type="truncated")
    except Exception as error:
        yield failed(error)


# --8<-- [end:responses]
# --8<-- [start:routes]
@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """Keep one client, with its connections, as long as the application runs."""
    key = os.environ.get("OPENAI_API_KEY") or "none"  # The SDK insists on one.
    sdk = openai.AsyncOpenAI(api_key=key, timeout=SILENCE, max_retries=0)
    async with sdk:
        yield {"client": sdk}


app = FastAPI(title="llm_openai", lifespan=lifespan)
Chat = Annotated[Chunks, Depends(partial(open_chunks, create_chat))]
Response = Annotated[Events, Depends(partial(open_chunks, create_response))]
# Without it /openapi.json would not know the models.
EVENTS: dict[int | str, Any] = {200: {"model": Event}}


@app.get("/answer", response_class=EventSourceResponse, responses=EVENTS)
async def stream_answer(chunks: Chat) -> AsyncIterator[ServerSentEvent]:
    """Send each event under its name, with its fields as JSON."""
    async for event in answer(chunks):
        yield ServerSentEvent(event=NAMES[type(event)], data=event)


@app.get("/responses", response_class=EventSourceResponse, responses=EVENTS)
async def stream_response(events: Response) -> AsyncIterator[ServerSentEvent]:
    """Send the same events; the answer comes from the Responses API."""
    async for event in answer_in_events(events):
        yield ServerSentEvent(event=NAMES[type(event)], data=event)


# --8<-- [end:routes]
if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8000)
