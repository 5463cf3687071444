"""Wrong: without a version of its own, new code leaves the answers of the old behind.

Run it:   uvicorn recipes.pitfalls.llm_durable.left_by_a_deployment:app
Try it:   curl -X POST http://127.0.0.1:8000/answer
          curl -X POST http://127.0.0.1:8000/deploy
          curl http://127.0.0.1:8000/answer
See it:   "status":"PENDING"
"""

# --8<-- [start:wrong]
import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from tempfile import TemporaryDirectory

from anyio.to_thread import run_sync as in_thread
from dbos import DBOS, DBOSConfig, SetWorkflowID
from fastapi import FastAPI

ID = "tea-1"
PATIENCE = 2.5  # seconds; DBOS takes up what was left within one
deployed = [1]  # versions of the code
running: list[asyncio.Task[str] | None] = []


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Run DBOS on a database that outlives each version of the code, but not `app`."""
    with TemporaryDirectory() as folder:
        deployed[:] = [1]
        running.clear()
        app.state.config = DBOSConfig(
            name="left-by-a-deployment",
            system_database_url=f"sqlite:///{folder}/answers.sqlite",
            log_level="CRITICAL",
            notification_listener_polling_interval_sec=0.05,  # seconds
            # There is no application_version: DBOS makes one of the workflows' code.
        )
        DBOS(config=app.state.config)
        DBOS.launch()
        yield
        await in_thread(DBOS.destroy)


# --8<-- [end:wrong]
app = FastAPI(lifespan=lifespan)


@DBOS.workflow()
async def write() -> str:
    """Write for so long, with the first version, that a deployment comes between."""
    running.append(asyncio.current_task())
    if deployed == [1]:
        await asyncio.sleep(3600)
    return "Tea is hot"


@app.post("/answer", status_code=202)
async def begin() -> dict[str, str]:
    """Begin an answer."""
    with SetWorkflowID(ID):
        await DBOS.start_workflow_async(write)
    return {"version": DBOS.application_version}


@app.post("/deploy")
async def deploy() -> dict[str, str]:
    """Do what a deployment does: stop, add a workflow to the code, and start."""
    for task in filter(None, running):
        task.cancel()
    await in_thread(DBOS.destroy)
    # DBOS had put its own threads behind the event loop.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())
    deployed.append(2)

    @DBOS.workflow(name="left_by_a_deployment_new")
    async def new() -> None:
        """Do something that has nothing to do with answers."""

    DBOS(config=app.state.config)
    DBOS.launch()
    return {"version": DBOS.application_version}


@app.get("/answer")
async def answer() -> dict[str, str]:
    """Tell what has become of it, after more than enough time."""
    await asyncio.sleep(PATIENCE)
    found = await DBOS.get_workflow_status_async(ID)
    return {"status": found.status if found else "unknown"}
