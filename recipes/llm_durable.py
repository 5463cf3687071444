# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "anyio>=4.16",
#   "dbos>=3.4",
#   "fastapi>=0.165",
#   "openai>=3.52",
#   "uvicorn>=0.54",
# ]
#
# [tool.cookbook]
# needs = ["model"]
# application = true
# ///
"""Write an answer that outlives its process: a reload, a kill -9, a new deployment.

Run it:   uvicorn recipes.llm_durable:app
Try it:   curl -i -X POST -H 'Idempotency-Key: tea-1' \
            'http://127.0.0.1:8000/answers?prompt=Why+is+tea+hot'
          curl -N http://127.0.0.1:8000/answers/tea-1/events
          curl -i -X POST http://127.0.0.1:8000/answers/tea-1/cancel
"""

import asyncio
import logging
import os
import re
import secrets
import tempfile
import traceback
from collections.abc import AsyncGenerator, AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path as File
from types import SimpleNamespace
from typing import Annotated, Any
from weakref import WeakSet

import openai
import uvicorn
from anyio import BrokenResourceError
from anyio.to_thread import run_sync as in_thread
from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer, SetWorkflowID
from dbos import WorkflowStatus as Answer
from dbos import error as dbos_error
from fastapi import Depends, FastAPI, Header, HTTPException, Query, Response
from fastapi.responses import FileResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import Field, StringConstraints, TypeAdapter

log = logging.getLogger(__name__)
here: Any = SimpleNamespace()  # what this process holds as it runs

# --8<-- [start:producer]
SILENCE = 30.0  # seconds that the provider may be silent
LIMIT = 1_000_000  # characters of an answer

# With a limit Pydantic also refuses half a surrogate pair, which UTF-8 cannot hold.
Text = TypeAdapter(Annotated[str, Field(max_length=LIMIT)])


async def ask(prompt: str, texts: asyncio.Queue[str]) -> tuple[str, dict[str, Any]]:
    """Put the text of each token into the queue; return the event that is the end."""
    reason = None
    size = 0
    try:
        async with await here.client.chat.completions.create(
            model=os.environ.get("OPENAI_MODEL") or "gpt-5.6-luna",  # a small one
            messages=[{"role": "user", "content": prompt}],
            stream=True,
        ) as chunks:
            async for chunk in chunks:
                for choice in chunk.choices:
                    text = choice.delta.content or choice.delta.refusal or ""
                    texts.put_nowait(Text.validate_python(text))
                    size += len(text)
                    reason = choice.finish_reason or reason
                if size > LIMIT:
                    return "failed", {"type": "too_long", "retryable": False}
        if reason:
            return "done", {"finish_reason": Text.validate_python(reason)}
        # A stream that was cut ends as a complete one does: without an error.
        return "failed", {"type": "truncated", "retryable": True}
    except Exception as error:  # The SDK checks nothing: a chunk may hold anything.
        log.error("%s %s", type(error), traceback.extract_tb(error.__traceback__))
        return "failed", {"type": "provider", "retryable": True}
    finally:
        texts.put_nowait("")  # wakes who waits for more


# --8<-- [end:producer]
# --8<-- [start:attempt]
STREAM = "events"
BATCH = 0.05  # seconds from one write to the next; each is a commit in the database


async def tell(name: str, fields: dict[str, Any]) -> None:
    """Append an event for all readers; raises if another attempt has taken over."""
    await DBOS.write_stream_async(STREAM, [name, fields])


async def write(prompt: str) -> None:
    """Tell the first token at once, and then every BATCH what has come meanwhile."""
    texts = asyncio.Queue[str]()
    async with asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(ask(prompt, texts))
        while not (asking.done() and texts.empty()):
            text = await texts.get()
            while not texts.empty():
                text += texts.get_nowait()
            if text:
                await tell("token", {"text": text})
                await asyncio.wait([asking], timeout=BATCH)  # It may be over earlier.
    await tell(*asking.result())


# DBOS stops a `preemptible` step when its workflow is cancelled.
@DBOS.step(name="attempt", preemptible=True, timeout_seconds=300)
async def attempt(workflow_id: str, prompt: str) -> None:
    """Try to answer. After a crash DBOS runs this again, from its beginning."""
    here.attempts.add(asyncio.current_task())
    answer = await DBOS.get_workflow_status_async(workflow_id)
    await tell("start", {"attempt": answer and answer.recovery_attempts})
    await write(prompt)


# There is a limit, because a question might kill each process that tries to answer.
@DBOS.workflow(name="llm_durable", max_recovery_attempts=5)
async def write_answer(workflow_id: str, prompt: str) -> None:
    """Answer a question, in one step: a model never says the same thing twice."""
    await attempt(workflow_id, prompt)


# --8<-- [end:attempt]
# --8<-- [start:process]
VERSION = "1"  # of the stored answers; DBOS goes on with those of its own version only


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Run DBOS, which first goes on with what a process of the same name has left."""
    key = os.environ.get("OPENAI_API_KEY") or "none"  # The SDK insists on one.
    file = f"sqlite:///{tempfile.gettempdir()}/llm_durable.sqlite"
    url = os.environ.get("DATABASE_URL") or file
    config: DBOSConfig = {
        "name": "llm-durable",
        "system_database_url": url.replace("+aiosqlite", ""),
        "application_version": VERSION,
        "serializer": DBOSPortableJSONSerializer(),  # The default is pickle.
        "notification_listener_polling_interval_sec": BATCH,  # SQLite sends no notice.
        "log_level": "CRITICAL",
    }
    async with openai.AsyncOpenAI(api_key=key, timeout=SILENCE, max_retries=0) as sdk:
        here.client = sdk
        here.attempts = WeakSet[Any]()
        DBOS(config=config)
        DBOS.launch()
        yield
        # A step that is cancelled has no result: the next process runs it again.
        for task in here.attempts:
            task.cancel()
        await asyncio.gather(*here.attempts, return_exceptions=True)
        await in_thread(DBOS.destroy)
    # DBOS has put its own threads behind the event loop, and they are gone.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())


# --8<-- [end:process]
# --8<-- [start:answers]
PREFIX = "llm_durable:"  # of the ids, because others may use the same database
KEEP = timedelta(hours=24)  # that an answer stays after its end, at least

app = FastAPI(title="llm_durable", lifespan=lifespan)
Key = Annotated[str, StringConstraints(pattern="^[A-Za-z0-9_-]{1,64}$")]
Prompt = Annotated[str, Query(min_length=1, max_length=2000)]


async def forget() -> None:
    """Delete the answers that ended too long ago, with their events."""
    until = (datetime.now(UTC) - KEEP).isoformat()
    old = await DBOS.list_workflows_async(
        completed_before=until, workflow_id_prefix=PREFIX, load_input=False
    )
    await DBOS.delete_workflows_async([answer.workflow_id for answer in old])


@app.post("/answers", status_code=202)
async def start(prompt: Prompt, idempotency_key: Annotated[Key, Header()]) -> Response:
    """Begin an answer, unless this key has one; say where to read it."""
    if not (os.environ.get("OPENAI_API_KEY") or os.environ.get("OPENAI_BASE_URL")):
        raise HTTPException(503, "No model: run `cookbook llm` and type its exports.")
    await forget()
    workflow_id = PREFIX + idempotency_key
    with SetWorkflowID(workflow_id):
        begun = await DBOS.start_workflow_async(write_answer, workflow_id, prompt)
    answer = await begun.get_status()
    if answer.input and answer.input["args"][1] != prompt:
        raise HTTPException(409, "This key belongs to another question.")
    # Relative to /answers, so that it holds behind any prefix.
    where = {"Location": f"answers/{idempotency_key}/events"}
    return Response(status_code=202, headers=where)


async def find(key: Key) -> Answer:
    """Find an answer; raises HTTPException (404), which must be before the stream."""
    answer = await DBOS.get_workflow_status_async(PREFIX + key)
    if answer is None:
        raise HTTPException(404, "No such answer.")
    return answer


Found = Annotated[Answer, Depends(find)]


@app.post("/answers/{key}/cancel", status_code=204)
async def cancel(answer: Found) -> None:
    """Stop an answer, whichever process writes it; one that has ended stays."""
    await DBOS.cancel_workflow_async(answer.workflow_id)


# --8<-- [end:answers]
# --8<-- [start:readers]
Sent = AsyncGenerator[ServerSentEvent, None]
ENDS = ("done", "failed")  # the names of the last event


async def place_of(answer: Answer, last_id: str) -> int:
    """Count the events up to the one with this id; without such an event it is 0.

    Raises HTTPException (204) if it was the last: a browser does not ask again then.
    """
    run, _, number = last_id.rpartition("-")
    if run != f"{answer.created_at:016x}" or not re.fullmatch("[0-9]{1,9}", number):
        return 0
    try:
        name, _ = await DBOS.read_stream_offset_async(
            answer.workflow_id, STREAM, int(number) - 1, timeout_seconds=0
        )
    except dbos_error.DBOSStreamTimeoutError:
        return 0
    if name in ENDS:
        raise HTTPException(204)
    return int(number)


async def follow(answer: Answer, place: int) -> Sent:
    """Give the events after this place as they come, up to the end."""
    yield ServerSentEvent(retry=1000 + secrets.randbelow(1000))  # milliseconds
    events = DBOS.read_stream_async(answer.workflow_id, STREAM, offset=place)
    async with aclosing(events):
        async for name, fields in events:
            place += 1
            event_id = f"{answer.created_at:016x}-{place}"
            yield ServerSentEvent(event=name, data=fields, id=event_id)
            if name in ENDS:
                return
    # No attempt has told an end, and none will: it was cancelled, say.
    ended = await DBOS.get_workflow_status_async(answer.workflow_id)
    kind = ended.status.lower() if ended else "expired"
    yield ServerSentEvent(event="failed", data={"type": kind, "retryable": True})


async def open_events(
    answer: Found, last_event_id: Annotated[str, Header()] = ""
) -> AsyncIterator[Sent]:
    """Open the events where a client left off, and close them when it leaves."""
    place = await place_of(answer, last_event_id)
    async with aclosing(follow(answer, place)) as events:
        try:
            yield events
        except* BrokenResourceError:
            pass  # FastAPI's, when a client leaves that had stopped reading.


Opened = Annotated[Sent, Depends(open_events)]


@app.get("/answers/{key}/events", response_class=EventSourceResponse)
async def read(events: Opened) -> AsyncIterator[ServerSentEvent]:
    """Send the events of an answer, to any number of readers."""
    async for event in events:
        yield event


# --8<-- [end:readers]
@app.get("/", include_in_schema=False)
def page() -> FileResponse:
    """Ask and read in a browser."""
    return FileResponse(File(__file__).with_suffix(".html"))


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8000)
