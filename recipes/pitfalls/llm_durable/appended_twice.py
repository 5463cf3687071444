"""Wrong: a step that runs again appends its words behind those of the first time.

Run it:   uvicorn recipes.pitfalls.llm_durable.appended_twice:app
Try it:   curl http://127.0.0.1:8000/honest-answer
          curl http://127.0.0.1:8000/answer
See it:   {"answer":"Tea isTea is hot"}
"""

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from tempfile import TemporaryDirectory
from typing import Any

from anyio.to_thread import run_sync as in_thread
from dbos import DBOS, WorkflowHandleAsync
from fastapi import FastAPI

STREAM = "words"


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Run DBOS on a database that is gone with the process."""
    with TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/answers.sqlite"
        DBOS(
            config={
                "name": "appended-twice",
                "system_database_url": url,
                "log_level": "CRITICAL",
                "notification_listener_polling_interval_sec": 0.05,
            }
        )
        DBOS.launch()
        yield
        await in_thread(DBOS.destroy)


app = FastAPI(lifespan=lifespan)


async def words() -> AsyncIterator[str]:
    """Stand in for a model, which breaks off the first time."""
    status = DBOS.step_status
    yield "Tea"
    yield " is"
    if status and status.current_attempt == 0:
        raise ConnectionError
    yield " hot"


async def run(workflow: Callable[[], Coroutine[Any, Any, None]]) -> list[str]:
    """Run a workflow, and read its stream to the end."""
    begun: WorkflowHandleAsync[None] = await DBOS.start_workflow_async(workflow)
    stream = DBOS.read_stream_async(begun.workflow_id, STREAM)
    return [value async for value in stream]


# --8<-- [start:wrong]
@DBOS.step(retries_allowed=True, interval_seconds=0.05)
async def append() -> None:
    """Append the words; what this step wrote before it failed stays in the stream."""
    async for word in words():
        await DBOS.write_stream_async(STREAM, word)


@DBOS.workflow()
async def append_words() -> None:
    """Answer."""
    await append()


@app.get("/answer")
async def answer() -> dict[str, str]:
    """Put together whatever is in the stream."""
    return {"answer": "".join(await run(append_words))}


# --8<-- [end:wrong]
# --8<-- [start:right]
START = "start"


@DBOS.step(retries_allowed=True, interval_seconds=0.05)
async def append_marked() -> None:
    """Append a mark, then the words."""
    await DBOS.write_stream_async(STREAM, START)
    async for word in words():
        await DBOS.write_stream_async(STREAM, word)


@DBOS.workflow()
async def append_marked_words() -> None:
    """Answer."""
    await append_marked()


@app.get("/honest-answer")
async def honest_answer() -> dict[str, str]:
    """Drop what came before the last mark."""
    text = ""
    for word in await run(append_marked_words):
        text = "" if word == START else text + word
    return {"answer": text}


# --8<-- [end:right]
