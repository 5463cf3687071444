# /// script
# requires-python = ">=3.11"
# dependencies = ["fastapi>=0.165", "openai>=3.52", "uvicorn>=0.54"]
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
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import openai
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from fastapi.staticfiles import StaticFiles
from openai.types.chat import ChatCompletionChunk
from pydantic import BaseModel, Field
from starlette.types import Message, Receive, Scope, Send

FIRST, IDLE, TOTAL = 30.0, 15.0, 120.0  # seconds: to a token, to the next, in all
STREAMS = 3  # that one client may have open, in this process
PAGE = Path(__file__).with_suffix(".html")
open_streams: list[str] = []  # the address of each one's client
request_id = ContextVar("request_id", default="")


# --8<-- [start:models]
class Turn(BaseModel, extra="forbid"):
    """One message; the role `system` is the server's, never a client's."""

    role: Literal["user", "assistant"]
    content: Annotated[str, Field(min_length=1, max_length=8000)]


class Conversation(BaseModel, extra="forbid"):
    """What a client sends."""

    messages: Annotated[list[Turn], Field(min_length=1, max_length=50)]
    max_tokens: Annotated[int, Field(ge=1, le=1000)] = 500


class Token(BaseModel):
    """A piece of the answer, with all its spaces and line ends."""

    text: str


class Done(Token):
    """All of it, and why it ended; `tokens` is what the provider counted, if it did."""

    finish_reason: str
    tokens: int | None


Events = AsyncGenerator[Token, None]
# --8<-- [end:models]
# --8<-- [start:errors]
WORDS = {
    400: "The model does not take this conversation.",
    429: "Too many at once. Wait a moment.",
    502: "The answer broke off.",
    503: "No model is set up: run `cookbook llm`, or set OPENAI_API_KEY.",
    504: "The model takes too long.",
}
WAIT = {"Retry-After": "5"}  # seconds
OURS = {400: 400, 401: 503, 403: 503, 404: 503, 429: 429}  # by the provider's status


def explain(error: Exception) -> HTTPException:
    """Say it in words of our own: the provider's may hold a key, and go nowhere."""
    logging.getLogger(__name__).warning("%s %s", request_id.get(), type(error).__name__)
    slow = isinstance(error, TimeoutError | openai.APITimeoutError)
    status = 504 if slow else OURS.get(getattr(error, "status_code", 0), 502)
    return HTTPException(status, WORDS[status], WAIT if status == 429 else None)


# --8<-- [end:errors]
# --8<-- [start:producer]
async def answer(chunks: AsyncIterator[ChatCompletionChunk], asked_at: float) -> Events:
    """Give the pieces of the answer, then all of it; EOFError if the end is missing."""
    now = asyncio.get_running_loop().time
    due, end, whole, reason, tokens = asked_at + FIRST, asked_at + TOTAL, "", None, None
    # A deadline is for one await, and never held across a yield: PEP 789.
    while chunk := await asyncio.wait_for(anext(chunks, None), min(due, end) - now()):
        tokens = chunk.usage.completion_tokens if chunk.usage else tokens
        for choice in chunk.choices:  # The chunk with the usage has none.
            reason = choice.finish_reason or reason
            if text := choice.delta.content or choice.delta.refusal:
                whole += text
                yield Token(text=text)
                due = now() + IDLE  # A slow client has not used any of it.
    if not reason:  # Nothing else tells a stream that was cut.
        raise EOFError
    yield Done(text=whole, finish_reason=reason, tokens=tokens)


async def ask(request: Request, asked: Conversation) -> AsyncIterator[Events]:
    """Ask while a status can still say no; in the end hang up and free the place."""
    state, who = request.state, request.client.host if request.client else ""
    if not state.client:
        raise HTTPException(503, WORDS[503])
    if open_streams.count(who) >= STREAMS:
        raise HTTPException(429, WORDS[429], WAIT)
    open_streams.append(who)
    asked_at = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(FIRST):
            chunks = await state.client.chat.completions.create(
                model=state.model,
                messages=asked.model_dump()["messages"],
                max_completion_tokens=asked.max_tokens,
                stream=True,
                stream_options={"include_usage": True},
            )
        async with chunks, aclosing(answer(chunks, asked_at)) as events:
            yield events
    except (openai.APIError, OSError, EOFError, ValueError) as error:
        raise explain(error) from None
    finally:  # In a dependency this runs at once; in a generator, some day.
        open_streams.remove(who)


# --8<-- [end:producer]
class App(FastAPI):
    """Gives each request an id, in pure ASGI: `BaseHTTPMiddleware` costs streams."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"].append((b"x-request-id", request_id.get().encode()))
            await send(message)

        request_id.set(secrets.token_hex(8))
        await super().__call__(scope, receive, named)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """Keep one client, which the SDK configures from its environment variables."""
    key = os.environ.get("OPENAI_API_KEY")
    model = os.environ.get("OPENAI_MODEL") or get_args(openai.types.ChatModel)[0]
    async with openai.AsyncOpenAI(api_key=key or "none", max_retries=0) as client:
        yield {"model": model, "client": client if key else None}


app = App(title="llm_chat", lifespan=lifespan)
app.mount("/vendor", StaticFiles(directory=PAGE.with_name("vendor"), check_dir=False))
ORIGINS = os.environ.get("CHAT_ORIGINS", "").split()
app.add_middleware(CORSMiddleware, allow_origins=ORIGINS, allow_methods=["POST"])
Asked = Annotated[Events, Depends(ask)]


@app.get("/health")
def health(request: Request) -> dict[str, str | bool]:
    """Tell that we run, and whether there is a model to ask."""
    return {"model": request.state.model, "ready": bool(request.state.client)}


@app.post("/chat")
async def chat(events: Asked) -> Done:
    """Give the answer when it is whole, or the status of what failed."""
    return [event async for event in events if isinstance(event, Done)].pop()


@app.post("/chat/stream", response_class=EventSourceResponse)
async def stream_chat(events: Asked) -> AsyncIterator[ServerSentEvent]:
    """Send each event under its own name, with JSON as its data."""
    try:
        async for event in events:
            yield ServerSentEvent(event=type(event).__name__.lower(), data=event)
    except Exception as error:  # Let out, it would take the last events with it.
        said = explain(error)
        data = {"status": said.status_code, "message": said.detail}
        yield ServerSentEvent(event="failed", data=data)


@app.get("/", include_in_schema=False)
def page() -> HTMLResponse:
    """Show the chat; the nonce lets its own scripts run, and no other (CSP)."""
    return HTMLResponse(PAGE.read_text("utf-8").replace("NONCE", secrets.token_hex()))


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8000)
