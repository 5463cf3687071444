# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "anthropic>=2.11", "anyio>=4.16", "fastapi>=0.165", "httpx2>=2.16",
#   "openai>=3.52", "stamina>=26.1", "uvicorn>=0.54",
# ]
#
# [tool.cookbook]
# needs = ["model"]
# application = true
# ///
"""Answer with the first of two providers that can: deadlines, retries, typed failures.

Run it:   uvicorn recipes.llm_errors:app
Try it:   curl -N 'http://127.0.0.1:8000/answer?prompt=Why+is+tea+hot'
"""

import asyncio
import logging
import os
import re
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Annotated, Any

import anthropic
import httpx2
import openai
import stamina
import uvicorn
from anyio import BrokenResourceError, CancelScope, move_on_after
from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field

# --8<-- [start:failures]
TOKENS = 1000  # of an answer, at most
LIMIT = 2_000_000  # bytes of a response; a thousand tokens take about 300,000
FIRST = 10.0  # seconds from a request to its first token
BEGIN = 30.0  # seconds from the question to the first token, with all requests
IDLE = 15.0  # seconds from one token to the next
TOTAL = 120.0  # seconds from the first token to the end
LONGEST = 5.0  # seconds between two requests, even if the provider asks for more

Prompt = Annotated[str, Query(min_length=1, max_length=2000)]
# When this process had its last failures, in seconds. With twenty of them in a minute
# nothing is asked again.
recent = deque([-60.0] * 20, maxlen=20)
retrying = stamina.AsyncRetryingCaller(attempts=3, wait_max=LONGEST)


class Token(BaseModel):
    """A piece of the answer, with all its spaces and line ends."""

    text: str = Field(max_length=1_000_000)


class Done(BaseModel):
    """The last event of an answer that is complete."""

    finish_reason: str = Field(max_length=100)


@dataclass(frozen=True)
class Failed:
    """The last event of an answer that is not complete, or the body of a refusal."""

    type: str
    status: int
    message: str
    retryable: bool


REFUSED = Failed("refused", 400, "The model refuses this question.", False)
BUSY = Failed("busy", 429, "The provider is busy.", True)
BROKEN = Failed("provider", 502, "The provider has failed.", True)
CUT = Failed("truncated", 502, "The answer broke off.", True)
ODD = Failed("unreadable", 502, "The answer cannot be read.", False)
SETUP = Failed("setup", 503, "No provider accepts our key and our model.", False)
SLOW = Failed("timeout", 504, "The provider takes too long.", True)

# What the provider's status means, or the class of an error that has no status.
MEANING: dict[object, Failed] = {400: REFUSED, 413: REFUSED, 422: REFUSED, 401: SETUP}
MEANING |= {403: SETUP, 404: SETUP, 429: BUSY, 503: BUSY, 529: BUSY, 408: SLOW}
MEANING |= {504: SLOW, openai.APITimeoutError: SLOW, anthropic.APITimeoutError: SLOW}
MEANING |= {TimeoutError: SLOW, StopAsyncIteration: CUT}
SDKS = openai.APIError, anthropic.APIError, httpx2.HTTPError


def explain(error: Exception) -> Failed:
    """Choose the failure that an error is; log its kind, and never its words.

    A provider may quote a key in them.
    """
    logging.getLogger(__name__).warning("No answer, or a part of one: %s", type(error))
    if getattr(error, "type", None) == "overloaded_error":
        return BUSY  # In mid-stream its status is 200.
    other = BROKEN if isinstance(error, SDKS) else ODD
    return MEANING.get(getattr(error, "status_code", type(error)), other)


# --8<-- [end:failures]
# --8<-- [start:guard]
@dataclass
class Limited(httpx2.AsyncByteStream):
    """The body of a response; it may not be longer than `LIMIT`."""

    body: Any

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Give the pieces. Raises ValueError if there are too many."""
        size = 0
        async for piece in self.body:
            size += len(piece)
            if size > LIMIT:
                raise ValueError("the response is too long")
            yield piece

    async def aclose(self) -> None:
        """Close the connection."""
        await self.body.aclose()


async def guard(response: httpx2.Response) -> None:
    """Limit a response before its body is read, and let nobody unpack it.

    We ask for a body that is not compressed. A few kilobytes may unpack to any size.
    """
    response.headers.pop("content-encoding", None)
    response.stream = Limited(response.stream)


# --8<-- [end:guard]
# --8<-- [start:providers]
Events = AsyncGenerator[ServerSentEvent, None]


async def ask_openai(client: openai.AsyncOpenAI, messages: list[Any]) -> Events:
    """Ask OpenAI once. An answer that was cut has no reason, and gives no `done`."""
    model = os.environ.get("OPENAI_MODEL") or "gpt-5.6-luna"
    yield ServerSentEvent(event="start", data={"provider": "openai", "model": model})
    reason = None
    async with await client.chat.completions.create(
        model=model, messages=messages, max_completion_tokens=TOKENS, stream=True
    ) as chunks:
        async for chunk in chunks:
            for choice in chunk.choices:
                if text := choice.delta.content or choice.delta.refusal:
                    yield ServerSentEvent(event="token", data=Token(text=text))
                reason = choice.finish_reason or reason
    if reason:
        yield ServerSentEvent(event="done", data=Done(finish_reason=reason))


async def ask_claude(client: anthropic.AsyncAnthropic, messages: list[Any]) -> Events:
    """Ask Anthropic once, and give the same events."""
    model = os.environ.get("ANTHROPIC_MODEL") or "claude-haiku-5-5"
    yield ServerSentEvent(event="start", data={"provider": "anthropic", "model": model})
    async with client.messages.stream(
        model=model, messages=messages, max_tokens=TOKENS
    ) as stream:
        async for text in stream.text_stream:
            yield ServerSentEvent(event="token", data=Token(text=text))
    if reason := stream.current_message_snapshot.stop_reason:
        yield ServerSentEvent(event="done", data=Done(finish_reason=reason))


# --8<-- [end:providers]
# --8<-- [start:begin]
Ask = Callable[[list[Any]], Events]
Begun = tuple[list[ServerSentEvent], Events]


def again(error: BaseException) -> bool | float:
    """Say whether to ask the same provider again; a number is the seconds to wait."""
    failed = getattr(error, "detail", None)
    if not failed or not failed["retryable"] or failed["status"] == 504:
        return False
    recent.append(time.monotonic())
    wait = float((getattr(error, "headers", None) or {}).get("Retry-After", 0))
    if wait > LONGEST or time.monotonic() - recent[0] < 60:
        return False
    return wait or True


def retry_after(error: Exception) -> dict[str, str]:
    """Pass on a Retry-After in seconds (RFC 9110, 10.2.3), but at most a minute."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    told = re.fullmatch("[0-9]{1,9}", headers.get("retry-after", ""))
    return {"Retry-After": str(min(int(told[0]), 60))} if told else {}


async def first_token(ask: Ask, messages: list[Any]) -> Begun:
    """Ask one provider; return with the first token. Raises HTTPException."""
    events = ask(messages)
    try:
        async with asyncio.timeout(FIRST):
            return [await anext(events), await anext(events)], events
    except Exception as error:
        failed = explain(error)
        raise HTTPException(failed.status, asdict(failed), retry_after(error)) from None


async def begin(providers: list[Ask], messages: list[Any]) -> Begun:
    """Ask one provider after the other. Raises HTTPException."""
    refusal = HTTPException(503, asdict(SETUP))
    for ask in providers:
        try:
            return await retrying(again, first_token, ask, messages)
        except HTTPException as error:
            refusal = error
    raise refusal


# --8<-- [end:begin]
# --8<-- [start:routes]
async def left(request: Request, scope: CancelScope) -> None:
    """Cancel what is done for a client when it leaves."""
    while (await request.receive())["type"] != "http.disconnect":
        pass  # Before it comes the request's body, which is empty.
    scope.cancel()


async def open_answer(request: Request, prompt: Prompt) -> AsyncIterator[Begun]:
    """Begin an answer while a status can still say no, and close it in any case."""
    messages = [{"role": "user", "content": prompt}]
    with move_on_after(BEGIN) as scope:
        leaving = asyncio.create_task(left(request, scope))
        try:
            begun, rest = await begin(request.state.providers, messages)
        finally:
            leaving.cancel()
    if scope.cancelled_caught:  # If the client has left, nobody reads it.
        raise HTTPException(504, asdict(SLOW))
    try:
        async with aclosing(rest):
            yield begun, rest
    except* BrokenResourceError:
        pass  # FastAPI's, when a client leaves that had stopped reading.


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, list[Ask]]]:
    """Know each provider whose key is in the environment."""
    providers: list[Ask] = []
    plain = {"Accept-Encoding": "identity"}
    # A redirect is not followed: it would carry the question to anyone.
    async with openai.DefaultAsyncHttpxClient(
        headers=plain, event_hooks={"response": [guard]}, follow_redirects=False
    ) as http:
        if os.environ.get("OPENAI_API_KEY"):
            gpt = openai.AsyncOpenAI(http_client=http, max_retries=0)
            providers.append(partial(ask_openai, gpt))
        if os.environ.get("ANTHROPIC_API_KEY"):
            claude = anthropic.AsyncAnthropic(http_client=http, max_retries=0)
            providers.append(partial(ask_claude, claude))
        yield {"providers": providers}


app = FastAPI(title="llm_errors", lifespan=lifespan)
Opened = Annotated[Begun, Depends(open_answer)]


@app.get("/answer", response_class=EventSourceResponse)
async def stream_answer(answer: Opened) -> AsyncIterator[ServerSentEvent]:
    """Send the events of an answer; whatever goes wrong ends in `failed`."""
    begun, rest = answer
    for event in begun:
        yield event
    now = asyncio.get_running_loop().time
    end = now() + TOTAL
    try:
        while event.event != "done":
            # A deadline is for one await, and never held across a yield: PEP 789.
            async with asyncio.timeout_at(min(now() + IDLE, end)):
                event = await anext(rest)
            yield event
    except Exception as error:
        yield ServerSentEvent(event="failed", data=explain(error))


# --8<-- [end:routes]
if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8000)
