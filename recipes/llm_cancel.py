# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "anyio>=4.16",
#     "fastapi>=0.165",
#     "openai>=3.52",
#     "redis>=8.1",
#     "uvicorn>=0.54",
# ]
#
# [tool.cookbook]
# needs = ["model"]
# application = true
# ///
"""Stop a language model's answer: by leaving, by a request, by a deadline.

Run it:   uvicorn recipes.llm_cancel:app
Try it:   curl -N -X PUT -H 'Authorization: Bearer ada' \
            'http://127.0.0.1:8000/generations/tea?prompt=Tell+a+long+story'
          curl -i -X POST -H 'Authorization: Bearer ada' \
            http://127.0.0.1:8000/generations/tea/cancel
          curl -N -X PUT -H 'Authorization: Bearer ada' \
            'http://127.0.0.1:8000/generations/short?prompt=Hello&seconds=0.01'
"""

import asyncio
import hashlib
import logging
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path as File
from typing import Annotated, Any, Literal

import openai
import uvicorn
from anyio import BrokenResourceError, CancelScope, create_task_group, current_time
from fastapi import Depends, FastAPI, HTTPException, Path, Query, Request
from fastapi.responses import FileResponse, JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi.sse import EventSourceResponse, ServerSentEvent
from openai.types import CompletionUsage as Usage
from pydantic import BaseModel, Field
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from starlette.datastructures import State

DEFAULT_MODEL = "gpt-5.6-luna"  # a small one; OPENAI_MODEL names another
SILENCE = 30.0  # seconds that the provider may be silent, before and in its answer
TOTAL = 120.0  # seconds for a whole answer; a client may ask for less

console = logging.getLogger("uvicorn.error")  # what uvicorn shows on the console
# With a limit Pydantic also refuses half a surrogate pair, which UTF-8 cannot hold.
Text = Annotated[str, Field(max_length=1_000_000)]


# --8<-- [start:events]
class Start(BaseModel):
    """The first event: under this id the answer can be stopped from now on."""

    id: str
    model: str


class Token(BaseModel):
    """A piece of the answer, with all its spaces and line ends."""

    text: Text


class Done(BaseModel, validate_assignment=True):
    """The last event of an answer that is complete."""

    finish_reason: Text
    usage: Usage | None


class Failed(BaseModel):
    """The last event of an answer that broke off; may asking again help?"""

    type: str
    message: str = "The answer broke off."
    retryable: bool = True


class Cancelled(BaseModel):
    """The last event of an answer that was stopped: by which way, and what it used.

    `tokens` is how many came. The provider's own count would have come last.
    """

    by: Literal["request", "deadline"]
    tokens: int


Event = Token | Done | Failed | Cancelled
NAMES = {Token: "token", Done: "done", Failed: "failed", Cancelled: "cancelled"}


# --8<-- [end:events]
# --8<-- [start:generation]
class Generation:
    """An answer that is being written."""

    def __init__(self, key: str, seconds: float) -> None:
        self.key = key  # of its owner and its id
        self.events = asyncio.Queue[Event](1)  # from the provider to the client
        self.tokens = 0  # that have come
        self.scope = CancelScope(deadline=current_time() + seconds)
        self.by: Literal["request", "deadline"] = "deadline"  # what ends the scope


# --8<-- [end:generation]
# --8<-- [start:table]
NAME = "llm_cancel:"  # how each name in Redis begins
EXPIRY = 130  # seconds until Redis forgets an entry; no answer lives as long
AGAIN = 0.5  # seconds until a Redis that did not answer is asked again


class Table:
    """The answers that are being written; by Redis each process can find them all."""

    def __init__(self, redis: Redis | None) -> None:
        self.running: dict[str, Generation] = {}  # in this process
        self.channel = NAME + secrets.token_hex(8)  # on which others tell this process
        self.redis = redis

    async def add(self, it: Generation) -> bool:
        """Enter an answer; False if its owner has one of this id."""
        free: Any = it.key not in self.running
        if free and self.redis:
            free = await self.redis.set(NAME + it.key, self.channel, nx=True, ex=EXPIRY)
        if free:
            self.running[it.key] = it
        return bool(free)

    async def remove(self, it: Generation) -> None:
        """Take an answer out, also while its request is being cancelled."""
        if self.running.get(it.key) is it:
            del self.running[it.key]
            if self.redis:
                with suppress(RedisError), CancelScope(shield=True):
                    await self.redis.delete(NAME + it.key)

    async def stop(self, key: str) -> bool:
        """Stop an answer, or tell its process to; False if there is none.

        Raises:
            RedisError: nobody knows, or nobody was told.
        """
        if it := self.running.get(key):
            it.by = "request"
            it.scope.cancel()  # Whatever it waits for: the provider, or a slow client.
            return True
        channel = await self.redis.get(NAME + key) if self.redis else None
        if self.redis and channel and not await self.redis.publish(channel, key):
            raise RedisError("the process that writes it does not listen")
        return channel is not None

    async def listen(self, redis: Redis) -> None:
        """Hear what this process is told to stop, for as long as it runs."""
        while True:
            try:
                async with redis, redis.pubsub() as told:
                    await told.subscribe(self.channel)
                    async for message in told.listen():
                        if message["data"] in self.running:
                            await self.stop(message["data"])
            except RedisError as error:
                console.warning("Redis does not answer: %s", error)
                await asyncio.sleep(AGAIN)


# --8<-- [end:table]
# --8<-- [start:producer]
async def write(state: State, prompt: str, it: Generation) -> None:
    """Ask the provider, hand over the tokens, and leave it before the last event."""
    last: Event = Failed(type="truncated")  # No error says that an answer was cut.
    done = Done(finish_reason="", usage=None)  # It is completed as the chunks come.
    try:
        with it.scope:
            chunks = await state.client.chat.completions.create(
                model=os.environ.get("OPENAI_MODEL") or DEFAULT_MODEL,
                messages=[{"role": "user", "content": prompt}],
                stream=True,
                stream_options={"include_usage": True},
            )
            async with chunks:
                async for chunk in chunks:
                    if chunk.usage:
                        fields = chunk.usage.to_dict(warnings=False)
                        done.usage = Usage.model_validate(fields, extra="ignore")
                    for choice in chunk.choices:  # The chunk with the usage has none.
                        if text := choice.delta.content or choice.delta.refusal:
                            it.tokens += 1
                            await it.events.put(Token(text=text))
                        done.finish_reason = choice.finish_reason or done.finish_reason
        if it.scope.cancelled_caught:
            last = Cancelled(by=it.by, tokens=it.tokens)
        elif done.finish_reason:
            last = done
    except Exception as error:  # The SDK checks nothing: a chunk may hold anything.
        console.error("The answer broke off: %s", type(error))
        last = Failed(type="provider", retryable=isinstance(error, openai.APIError))
    await state.table.remove(it)
    await it.events.put(last)


# --8<-- [end:producer]
# --8<-- [start:routes]
Id = Annotated[str, Path(alias="id", pattern="^[A-Za-z0-9-]{1,64}$")]
Prompt = Annotated[str, Query(min_length=1, max_length=2000)]
Seconds = Annotated[float, Query(gt=0, le=TOTAL)]
Bearer = Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]


async def key_of(name: Id, bearer: Bearer) -> str:
    """Give the key of an id and of who asks; your check of the token goes here.

    Nobody can name the key of somebody else, so no secret is compared.
    """
    owner = hashlib.sha256(bearer.credentials.encode()).hexdigest()
    return f"{owner}:{name}"


Key = Annotated[str, Depends(key_of)]


async def begin(
    request: Request, key: Key, prompt: Prompt, seconds: Seconds = TOTAL
) -> AsyncIterator[Generation]:
    """Write an answer in a task; whatever ends the response, end the task too."""
    if not (os.environ.get("OPENAI_API_KEY") or os.environ.get("OPENAI_BASE_URL")):
        raise HTTPException(503, "No model: run `cookbook llm` and type its exports.")
    it = Generation(key, seconds)
    if not await request.state.table.add(it):
        raise HTTPException(409, "A generation of yours has this id.")
    task = asyncio.create_task(write(request.state, prompt, it))
    try:
        yield it
    except* BrokenResourceError:
        pass  # FastAPI's, when a client leaves that had stopped reading.
    finally:
        task.cancel()
        await asyncio.wait([task])
        await request.state.table.remove(it)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """Open the table that REDIS_URL names, and one client of the provider."""
    url = os.environ.get("REDIS_URL")
    # A second try, at once: a connection may be from before Redis was started anew.
    again = Retry(NoBackoff(), 1)
    redis = Redis.from_url(url, decode_responses=True, retry=again) if url else None
    table = Table(redis)
    key = os.environ.get("OPENAI_API_KEY") or "none"  # The SDK insists on one.
    client = openai.AsyncOpenAI(api_key=key, timeout=SILENCE, max_retries=0)
    async with client, create_task_group() as tasks:
        if redis:
            tasks.start_soon(table.listen, redis)
        yield {"table": table, "client": client}
        tasks.cancel_scope.cancel()


app = FastAPI(title="llm_cancel", lifespan=lifespan)
Begun = Annotated[Generation, Depends(begin)]


@app.exception_handler(RedisError)
async def no_redis(_request: Request, _error: Exception) -> JSONResponse:
    """Say so, to a stop and to what could not be stopped later."""
    return JSONResponse({"detail": "Stop does not work now. Close the stream."}, 503)


@app.put("/generations/{id}", response_class=EventSourceResponse)
async def generate(name: Id, it: Begun) -> AsyncIterator[ServerSentEvent]:
    """Send each event under its name, the first one before the provider is asked."""
    model = os.environ.get("OPENAI_MODEL") or DEFAULT_MODEL
    event: Start | Event = Start(id=name, model=model)
    yield ServerSentEvent(event="start", data=event)
    while isinstance(event, Start | Token):
        event = await it.events.get()
        yield ServerSentEvent(event=NAMES[type(event)], data=event)


@app.post("/generations/{id}/cancel", status_code=204)
async def cancel(request: Request, key: Key) -> None:
    """Stop an answer of one's own; its last event says when that is done."""
    if not await request.state.table.stop(key):
        raise HTTPException(404, "No generation of yours has this id.")


# --8<-- [end:routes]
@app.get("/", include_in_schema=False)
def page() -> FileResponse:
    """Stop answers in a browser."""
    return FileResponse(File(__file__).with_suffix(".html"))


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8000)
