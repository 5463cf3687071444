# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "anyio>=4.16",
#     "fastapi>=0.165",
#     "openai>=3.52",
#     "sqlalchemy[aiosqlite,postgresql-asyncpg]>=2.1.9",
#     "uvicorn>=0.54",
# ]
# [tool.cookbook]
# needs = ["model"]
# application = true
# ///
"""Keep the whole answer of a model while it streams, with its tokens and its cost.

Run it:   uvicorn recipes.llm_collect:app
Try it:   curl -N 'http://127.0.0.1:8000/answer?prompt=Why+is+tea+hot'
          curl 'http://127.0.0.1:8000/answers?limit=1'
"""

import logging
import os
import secrets
import tempfile
import time
from asyncio import Task, create_task, gather, wait
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple

import openai
import sqlalchemy as sql
import uvicorn
from anyio import BrokenResourceError, CancelScope
from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    Field,
    PlainSerializer,
    TypeAdapter,
)
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

SILENCE = 30.0  # seconds that the provider may be silent, before and in its answer
log = logging.getLogger(__name__)

# --8<-- [start:answer]
KEPT = 100_000  # characters that are kept of an answer; all of them are sent
Count = Annotated[int, Field(ge=0, le=10**12)]
Price = Annotated[Decimal, Field(ge=0, max_digits=12, decimal_places=6)]

# PostgreSQL cannot read a NUL out of JSON: one would spoil every query of the table.
Words = Annotated[str, AfterValidator(lambda text: text.replace("\0", "\ufffd"))]


class Usage(BaseModel, validate_assignment=True):
    """How many tokens an answer took, and what they cost."""

    prompt_tokens: Count
    completion_tokens: Count = 0
    estimated: bool = True  # until the provider has counted
    # None, and not 0, if nobody knows the prices. JSON has 0.0000004, and not 4E-7.
    cost: Annotated[Decimal, PlainSerializer("{:f}".format)] | None = None


class Prices(BaseModel, extra="forbid"):
    """What a million tokens of a model cost, in a currency of your choice."""

    input: Price
    output: Price

    def cost(self, usage: Usage) -> Decimal:
        """Give what the tokens cost, without rounding."""
        total = usage.prompt_tokens * self.input + usage.completion_tokens * self.output
        return total / 1_000_000


class Answer(BaseModel, validate_assignment=True):
    """What is kept of an answer."""

    id: str
    asked_at: AwareDatetime
    model: str
    prompt: Words
    text: Words = ""
    status: Literal["complete", "cancelled", "failed"] = "cancelled"  # until it ends
    finish_reason: Annotated[Words, Field(max_length=100)] = ""
    usage: Usage
    _writing: Task[bool] | None = None

    def add(self, piece: str) -> None:
        """Keep a piece of the text, and take it for a token until the usage comes."""
        self.text = (self.text + piece)[:KEPT]
        self.usage.completion_tokens += 1

    def count(self, asked: int, said: int) -> None:
        """Take the provider's count of both; ValidationError if these are no counts."""
        self.usage = Usage(prompt_tokens=asked, completion_tokens=said, estimated=False)


# --8<-- [end:answer]
# --8<-- [start:store]
PATIENCE = 10.0  # seconds that a client waits for the database
ids = sql.Column("id", sql.Text, primary_key=True)
kept = sql.Column("answer", sql.JSON, nullable=False)
table = sql.Table("answers", sql.MetaData(), ids, kept)


class Store(NamedTuple):
    """Where answers are kept."""

    engine: AsyncEngine
    prices: dict[str, Prices]  # by the name of the model
    open: dict[str, Answer]  # by id, those that may not be written yet

    async def write(self, answer: Answer) -> bool:
        """Settle the bill, write the row, and tell whether it is there."""
        if prices := self.prices.get(answer.model):
            answer.usage.cost = prices.cost(answer.usage)
        row = {"id": answer.id, "answer": answer.model_dump(mode="json")}
        try:
            async with self.engine.begin() as connection:
                await connection.execute(sql.insert(table), row)
            return True
        except Exception as error:  # Its text may repeat the answer's.
            log.error("%s is not stored: %s %r", answer.id, type(error), answer.usage)
            return False

    async def keep(self, answer: Answer) -> bool:
        """Write an answer once, whoever wants it kept; tell whether it is stored."""
        if answer._writing is None:
            answer._writing = create_task(self.write(answer))
        # The shield keeps a cancellation out. One that no shield keeps out ends this
        # wait, but not the task; whoever calls next waits for the same task.
        with CancelScope(shield=True):
            await wait([answer._writing], timeout=PATIENCE)
        if not answer._writing.done():
            log.error("%s: not stored in time: %r", answer.id, answer.usage)
        return answer._writing.done() and answer._writing.result()


# --8<-- [end:store]
# --8<-- [start:events]
class Start(BaseModel):
    """The first event: the model is asked."""

    id: str  # our own, under which the answer is stored
    model: str


class Token(BaseModel):
    """A piece of the answer, with all its spaces and line ends."""

    # With a limit Pydantic also refuses half a character, which UTF-8 cannot hold.
    text: Annotated[str, Field(max_length=1_000_000)]


class Done(BaseModel):
    """The last event of an answer that is complete."""

    finish_reason: str
    usage: Usage
    stored: bool = False  # whether the database has confirmed it


class Failed(BaseModel):
    """The last event of an answer that is not; says whether asking again may help."""

    type: str
    message: str = "The answer broke off."
    retryable: bool = True
    stored: bool = False


NAMES = {Start: "start", Token: "token", Done: "done", Failed: "failed"}
Events = AsyncGenerator[Start | Token | Done | Failed, None]


# --8<-- [end:events]
# --8<-- [start:producer]
async def events_of(answer: Answer, client: openai.AsyncOpenAI, store: Store) -> Events:
    """Ask, and give the answer as events; the last one tells how it went."""
    yield Start(id=answer.id, model=answer.model)
    failed = None
    try:
        asking = client.chat.completions.create(
            model=answer.model,
            messages=[{"role": "user", "content": answer.prompt}],
            stream=True,
            stream_options={"include_usage": True},
        )
        async with await asking as chunks:
            async for chunk in chunks:
                for choice in chunk.choices:  # The chunk with the usage has none.
                    if text := choice.delta.content or choice.delta.refusal:
                        token = Token(text=text)
                        answer.add(text)
                        yield token
                    answer.finish_reason = choice.finish_reason or answer.finish_reason
                if usage := chunk.usage:
                    answer.count(usage.prompt_tokens, usage.completion_tokens)
        if not answer.finish_reason:
            failed = Failed(type="truncated")
    except Exception as error:  # The SDK checks nothing: a chunk may hold anything.
        log.error("Broke off: %s", type(error))
        failed = Failed(type="provider", retryable=isinstance(error, openai.APIError))
    answer.status = "failed" if failed else "complete"
    stored = await store.keep(answer)
    last = failed or Done(finish_reason=answer.finish_reason, usage=answer.usage)
    last.stored = stored
    yield last


# --8<-- [end:producer]
# --8<-- [start:routes]
Prompt = Annotated[str, Query(min_length=1, max_length=2000)]


async def open_answer(request: Request, prompt: Prompt) -> AsyncIterator[Events]:
    """Begin an answer, and see that it is kept, however it ends."""
    if not (os.environ.get("OPENAI_API_KEY") or os.environ.get("OPENAI_BASE_URL")):
        raise HTTPException(503, "No model: run `cookbook llm` and type its exports.")
    store = request.state.store
    answer = Answer(
        id=f"{time.time_ns():016x}{secrets.token_hex(4)}",  # Ids sort by time.
        asked_at=datetime.now(UTC),
        model=os.environ.get("OPENAI_MODEL") or "gpt-5.6-luna",
        prompt=prompt,
        usage=Usage(prompt_tokens=len(prompt.encode()) // 4 + 1),  # as in English
    )
    store.open[answer.id] = answer
    try:
        async with aclosing(events_of(answer, request.state.client, store)) as events:
            yield events
    except* BrokenResourceError:
        pass  # FastAPI's, when a client leaves that had stopped reading.
    finally:
        await store.keep(answer)
        del store.open[answer.id]


# Several processes may start at once: the first makes the table, the others wait.
LOCK = {"sqlite": "BEGIN IMMEDIATE", "postgresql": "SELECT pg_advisory_xact_lock(1)"}


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """Open the database that DATABASE_URL names, or an SQLite file of our own.

    Raises:
        ValidationError: LLM_PRICES is no table of prices.
    """
    known = TypeAdapter(dict[str, Prices])
    prices = known.validate_json(os.environ.get("LLM_PRICES") or "{}")
    file = f"sqlite+aiosqlite:///{tempfile.gettempdir()}/llm_collect.sqlite"
    url = os.environ.get("DATABASE_URL") or file
    # Two connections for any number of answers: each needs one for milliseconds.
    engine = create_async_engine(url, pool_size=2, max_overflow=0, pool_pre_ping=True)
    store = Store(engine, prices, open={})
    key = os.environ.get("OPENAI_API_KEY") or "none"  # The SDK insists on one.
    try:
        async with engine.begin() as connection:
            await connection.exec_driver_sql(LOCK[engine.dialect.name])
            await connection.run_sync(table.create, checkfirst=True)
        async with openai.AsyncOpenAI(api_key=key, timeout=SILENCE, max_retries=0) as c:
            yield {"client": c, "store": store}
            # A server that stops breaks off what still runs. It is kept first.
            await gather(*[store.keep(answer) for answer in store.open.values()])
    finally:
        await engine.dispose()


app = FastAPI(title="llm_collect", lifespan=lifespan)
Opened = Annotated[Events, Depends(open_answer)]
Limit = Annotated[int, Query(ge=1, le=20)]
Id = Annotated[str, Query(pattern="^[0-9a-f]{24}$")]  # "g" sorts behind them all


@app.get("/answer", response_class=EventSourceResponse)
async def stream_answer(events: Opened) -> AsyncIterator[ServerSentEvent]:
    """Send each event under its name, with its fields as JSON."""
    async for event in events:
        yield ServerSentEvent(event=NAMES[type(event)], data=event)


@app.get("/answers")
async def past(request: Request, limit: Limit = 10, before: Id = "g") -> list[Answer]:
    """List answers, the newest first; `before` is the id of the last one you have."""
    query = sql.select(kept).where(ids < before).order_by(ids.desc()).limit(limit)
    async with request.state.store.engine.connect() as connection:
        return list(await connection.scalars(query))


# --8<-- [end:routes]
if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8000)
