# /// script
# requires-python = ">=3.11"
# dependencies = ["anyio>=4.16", "fastapi>=0.165", "openai>=3.52", "uvicorn>=0.54"]
#
# [tool.cookbook]
# needs = ["model"]
# application = true
# ///
"""Chat with a model: limits, deadlines, errors in plain words, and a page with Stop.

Run it:   uvicorn recipes.llm_chat:app
Try it:   curl -N http://127.0.0.1:8000/chat/stream \
            --json '{"messages": [{"role": "user", "content": "Why is tea hot?"}]}'
"""

import asyncio
import logging
import os
import re
import secrets
import traceback
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, Literal

import uvicorn
from anyio import BrokenResourceError, CancelScope
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.exception_handlers import request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from fastapi.staticfiles import StaticFiles
from openai import (
    APIError,
    APITimeoutError,
    AsyncOpenAI,
    AuthenticationError,
    BadRequestError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
)
from pydantic import BaseModel, Field
from starlette.types import Message, Receive, Scope, Send

MODEL = "gpt-5.6-luna"  # a small one of OpenAI's, unless OPENAI_MODEL names another
FIRST = 30.0  # seconds from the question to the first token
IDLE = 15.0  # seconds from one token to the next
TOTAL = 120.0  # seconds for the whole answer
STREAMS = 3  # answers at a time for one client, in this process
PAGE = Path(__file__).with_suffix(".html")
ORIGINS = os.environ.get("CHAT_ORIGINS", "").split()
AN_ORIGIN = "origins like https://shop.example, with a space between two"
SHOWN = ["Retry-After", "X-Request-ID"]  # headers for pages of other origins
NO_MODEL = "No model is set up: run `cookbook llm`, or set OPENAI_API_KEY."

open_streams: list[str] = []  # the address of each one's client
request_id = ContextVar("request_id", default="")
log = logging.getLogger(__name__)


# --8<-- [start:models]
class Turn(BaseModel):
    """One message; the role `system` is the server's, never a client's."""

    role: Literal["user", "assistant"]
    content: Annotated[str, Field(min_length=1, max_length=8000)]


class Conversation(BaseModel):
    """What a client sends."""

    messages: Annotated[list[Turn], Field(min_length=1, max_length=50)]
    max_tokens: Annotated[int, Field(ge=1, le=1000)] = 500


class Token(BaseModel):
    """A piece of the answer, with all its spaces and line ends."""

    # Because of the limit, Pydantic looks at the text and refuses half a character.
    text: Annotated[str, Field(max_length=1_000_000)]


class Done(Token):
    """All of it, and why it ended; `tokens` is what the provider counted, if it did."""

    finish_reason: Annotated[str, Field(max_length=100)]
    tokens: Annotated[int, Field(ge=0, le=1_000_000)] | None


class Failed(BaseModel):
    """What went wrong, in our words, and the HTTP status that belongs to it."""

    status: int
    message: str


NAMES = {Token: "token", Done: "done", Failed: "failed"}  # of the events
Events = AsyncGenerator[Token | Done | Failed, None]


# --8<-- [end:models]
# --8<-- [start:errors]
def explain(error: Exception) -> Failed:
    """Choose a status and words of our own; log the kind of error, and the place.

    The error's own text goes nowhere: a provider may quote a key in it.
    """
    log.warning("%s %s", request_id.get(), type(error).__name__)
    if not isinstance(error, APIError | OSError | EOFError):
        log.error("%s", traceback.extract_tb(error.__traceback__))
    if isinstance(error, TimeoutError | APITimeoutError):
        return Failed(status=504, message="The model takes too long.")
    if isinstance(error, BadRequestError):
        return Failed(status=400, message="The model does not take this conversation.")
    if isinstance(error, AuthenticationError | PermissionDeniedError | NotFoundError):
        return Failed(status=503, message="The provider refuses our key or our model.")
    if isinstance(error, RateLimitError):
        return Failed(status=429, message="The provider is busy. Wait a moment.")
    return Failed(status=502, message="The answer broke off.")


def refusal(failed: Failed) -> HTTPException:
    """Make a status of it; who comes too often is told when to come back."""
    headers = {"Retry-After": "5"} if failed.status == 429 else None  # seconds
    return HTTPException(failed.status, failed.message, headers)


# --8<-- [end:errors]
# --8<-- [start:producer]
async def answer(chunks: AsyncIterator[Any], asked_at: float) -> Events:
    """Give the pieces of the answer, then `Done`; whatever goes wrong ends in `Failed`.

    A provider's chunk may have any shape: the SDK does not check it.
    """
    due = asked_at + FIRST
    whole = ""
    reason = None
    tokens = None
    try:
        while True:
            # A deadline is for one await, and never held across a yield: PEP 789.
            patience = min(due, asked_at + TOTAL) - asyncio.get_running_loop().time()
            chunk = await asyncio.wait_for(anext(chunks, None), patience)
            if chunk is None:
                break
            tokens = getattr(chunk.usage, "completion_tokens", tokens)
            for choice in chunk.choices:  # The chunk with the usage has none.
                reason = choice.finish_reason or reason
                text = choice.delta.content or choice.delta.refusal
                if text:
                    yield Token(text=text)
                    whole += text
                    # From now on, so that a slow client has not used any of it.
                    due = asyncio.get_running_loop().time() + IDLE
        if reason is None:
            raise EOFError  # Nothing else tells a stream that was cut.
        yield Done(text=whole, finish_reason=reason, tokens=tokens)
    except Exception as error:
        yield explain(error)


# --8<-- [end:producer]
# --8<-- [start:ask]
async def left(request: Request, scope: CancelScope) -> None:
    """Cancel what is done for a client when it leaves."""
    await request.receive()  # Its body has been read: nothing else can come.
    scope.cancel()


@asynccontextmanager
async def unless_left(request: Request) -> AsyncIterator[None]:
    """Do what is in the block, as long as the client is there.

    Raises:
        HTTPException: the client has left. Nobody will read it.
    """
    with CancelScope() as scope:
        leaving = asyncio.create_task(left(request, scope))
        yield
    leaving.cancel()
    if scope.cancelled_caught:
        raise HTTPException(499, "The client has left.")


async def begin(request: Request, asked: Conversation) -> object:
    """Give the provider's stream, or `Failed`."""
    try:
        async with asyncio.timeout(FIRST):
            return await request.state.client.chat.completions.create(
                model=request.state.model,
                messages=asked.model_dump()["messages"],
                max_completion_tokens=asked.max_tokens,
                stream=True,
                stream_options={"include_usage": True},
            )
    except Exception as error:
        return explain(error)


async def ask(request: Request, asked: Conversation) -> AsyncIterator[Events]:
    """Ask while a status can still say no; in the end hang up and free the place."""
    who = request.client.host if request.client else ""
    if not request.state.ready:
        raise HTTPException(503, NO_MODEL)
    if open_streams.count(who) >= STREAMS:
        raise refusal(Failed(status=429, message="Too many at once. Wait a moment."))
    open_streams.append(who)
    asked_at = asyncio.get_running_loop().time()
    try:
        async with unless_left(request):
            chunks: Any = await begin(request, asked)
        if isinstance(chunks, Failed):
            raise refusal(chunks)
        async with chunks, aclosing(answer(chunks, asked_at)) as events:
            yield events
    finally:  # In a dependency this runs at once; in a generator, some day.
        open_streams.remove(who)


# --8<-- [end:ask]
class App(FastAPI):
    """Gives each request an id, and is silent about a client that has left."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"].append((b"x-request-id", request_id.get().encode()))
            await send(message)

        request_id.set(secrets.token_hex(8))
        try:
            await super().__call__(scope, receive, send_with_id)
        except* BrokenResourceError:
            pass  # FastAPI's, when a client leaves that had stopped reading.


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """Keep one client, which the SDK configures from its environment variables.

    Raises:
        ValueError: CHAT_ORIGINS holds what no browser sends as its `Origin`.
    """
    for origin in ORIGINS:
        if not re.fullmatch(r"\*|[a-z][a-z0-9+.-]*://[^/,A-Z]+", origin):
            raise ValueError(f"CHAT_ORIGINS holds {origin!r}, not {AN_ORIGIN}")
    key = os.environ.get("OPENAI_API_KEY")
    model = os.environ.get("OPENAI_MODEL") or MODEL
    async with AsyncOpenAI(api_key=key or "none", max_retries=0) as client:
        yield {"client": client, "model": model, "ready": bool(key)}


app = App(title="llm_chat", lifespan=lifespan, max_body_size=2_000_000)  # bytes
app.mount("/vendor", StaticFiles(directory=PAGE.with_name("vendor"), check_dir=False))
app.add_middleware(
    CORSMiddleware, allow_origins=ORIGINS, allow_methods=["POST"], expose_headers=SHOWN
)
Answer = Annotated[Events, Depends(ask)]


@app.exception_handler(RequestValidationError)
async def refuse(request: Request, error: RequestValidationError) -> JSONResponse:
    """Say where a body is wrong, and what is, but repeat nothing of it.

    It may be two megabytes, or hold what JSON cannot: half a character, or NaN.
    """
    for wrong in error.errors():
        del wrong["input"]
    return await request_validation_exception_handler(request, error)


@app.get("/health")
def health(request: Request) -> dict[str, str | bool]:
    """Tell that we run, and whether there is a model to ask."""
    return {"model": request.state.model, "ready": request.state.ready}


# --8<-- [start:routes]
@app.post("/chat")
async def chat(request: Request, events: Answer) -> Done:
    """Give the answer when it is whole, or the status of what failed."""
    async with unless_left(request):
        async for event in events:
            last: Any = event
    if isinstance(last, Done):
        return last
    raise refusal(last)


@app.post("/chat/stream", response_class=EventSourceResponse)
async def stream_chat(events: Answer) -> AsyncIterator[ServerSentEvent]:
    """Send each event under its own name, with JSON as its data."""
    async for event in events:
        yield ServerSentEvent(event=NAMES[type(event)], data=event)


# --8<-- [end:routes]
@app.get("/", include_in_schema=False)
def page() -> HTMLResponse:
    """Show the chat; the nonce lets its own scripts run, and no other (CSP)."""
    return HTMLResponse(PAGE.read_text("utf-8").replace("NONCE", secrets.token_hex()))


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8000)
