# /// script
# requires-python = ">=3.11"
# dependencies = ["anyio>=4.16", "fastapi>=0.165", "uvicorn>=0.54"]
# [tool.cookbook]
# application = true
# ///
"""Import a file as a job that goes on by itself, and let anybody watch its progress.

Run it:   uvicorn recipes.sse_progress:app
Try it:   curl -i -X POST -T docs/clients/sse_progress.csv http://127.0.0.1:8000/jobs
          curl -N http://127.0.0.1:8000/jobs/f46cab8a66c9f0dc90fe49d371b9bede/events
          curl http://127.0.0.1:8000/orders
"""

import asyncio
import csv
import hashlib
import io
import logging
import os
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, current_thread, main_thread
from types import FrameType
from typing import Annotated, ClassVar

import uvicorn
from anyio import create_task_group, from_thread
from anyio.abc import TaskGroup
from anyio.to_thread import run_sync as in_thread
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field, ValidationError
from starlette.requests import ClientDisconnect

log = logging.getLogger("uvicorn.error")  # what uvicorn shows on the console


# --8<-- [start:job]
class Progress(BaseModel):
    """The job runs."""

    event: ClassVar[str] = "progress"
    rows: int
    percent: int = Field(ge=0, le=100)


class Completed(BaseModel):
    """The job has ended: all its rows are in the table."""

    event: ClassVar[str] = "completed"
    rows: int


class Failed(BaseModel):
    """The job has ended: none of its rows is in the table."""

    event: ClassVar[str] = "failed"
    reason: str
    line: int | None = None  # None: it is not the file's fault


class Job:
    """One job, and the newest of what is known about it; while it runs, progress."""

    def __init__(self) -> None:
        self.newer = asyncio.Event()  # set as soon as there is newer news
        self.tell(Progress(rows=0, percent=0))

    def tell(self, news: Progress | Completed | Failed) -> None:
        """Replace what is known, and wake all watchers."""
        self.news = news
        self.at = time.monotonic()  # seconds
        self.newer.set()
        self.newer = asyncio.Event()

    async def watch(self) -> AsyncIterator[Progress | Completed | Failed]:
        """Give what is known now, then what is newer, up to the end.

        A watcher that comes back late skips what has been replaced meanwhile.
        """
        while isinstance(self.news, Progress):
            newer = self.newer
            yield self.news
            await newer.wait()
        yield self.news


# --8<-- [end:job]
# --8<-- [start:rows]
class Order(BaseModel):
    """One row of the file; the names of the fields are its first line."""

    id: int = Field(ge=1, lt=2**63)
    item: str = Field(min_length=1, max_length=200)
    quantity: int = Field(ge=1, le=1000)
    price: Decimal = Field(ge=0, max_digits=10, decimal_places=2)


class FileError(Exception):
    """A file is not imported: the line, or None, and a reason that repeats no value."""


def read_rows(file: bytes) -> Iterator[Order]:
    """Check row after row; raises FileError at the first one that is wrong."""
    names = list(Order.model_fields)
    cells = csv.reader(line.decode("utf-8-sig") for line in io.BytesIO(file))
    line = 1  # on which a row begins
    try:
        if next(cells, []) != names:
            raise FileError(line, f"The first line must be {','.join(names)}")
        line = cells.line_num + 1
        for row in cells:
            if row:  # An empty line is no row.
                values = dict(zip(names, row, strict=True))
                yield Order.model_validate(values)
            line = cells.line_num + 1
    except ValidationError as error:
        fault = error.errors()[0]
        raise FileError(line, f"{fault['loc'][0]}: {fault['msg']}") from None
    except (ValueError, csv.Error):
        raise FileError(line, f"It must be {len(names)} cells in UTF-8") from None


# --8<-- [end:rows]
# --8<-- [start:import]
PAUSE = 0.2  # seconds before each step, so that you can watch; set it to 0


def import_file(job: Job, file: bytes, database: Path, stop: Event) -> Completed:
    """Do the job. It blocks: call it in a thread.

    Raises FileError, also when it is told to stop.
    """
    lines = file.rstrip().count(b"\n")  # below the first one
    percent = 0
    with closing(sqlite3.connect(database)) as connection:
        # A temporary table belongs to its connection: it locks nobody out.
        connection.execute("CREATE TEMP TABLE checked AS SELECT * FROM orders LIMIT 0")
        for rows, order in enumerate(read_rows(file), start=1):
            values = (order.id, order.item, order.quantity, f"{order.price:f}")
            connection.execute("INSERT INTO checked VALUES (?, ?, ?, ?)", values)
            if 100 * rows // lines > percent:
                if stop.wait(PAUSE):
                    raise FileError(None, "The server was stopped; send it again")
                percent = 100 * rows // lines
                from_thread.run_sync(job.tell, Progress(rows=rows, percent=percent))
        with connection:  # one transaction: all rows or none
            query = "INSERT OR REPLACE INTO orders SELECT * FROM checked"
            stored = connection.execute(query)
    return Completed(rows=stored.rowcount)


# --8<-- [end:import]
# --8<-- [start:jobs]
RUNNING = 4  # jobs at a time, and files that arrive
KEEP = 300.0  # seconds for which a job is known after its end
KNOWN = 100  # jobs; if there are more, those that have ended are forgotten earlier


class Jobs:
    """The jobs of this process: those that run, and those that ended lately."""

    def __init__(self, group: TaskGroup, database: Path) -> None:
        self.group = group  # of the tasks that do the jobs
        self.database = database
        self.known: dict[str, Job] = {}
        self.places = asyncio.Semaphore(RUNNING)
        self.stop = Event()  # set to stop all jobs

    def find(self, name: str) -> Job | None:
        """Find a job, after those have been forgotten that ended too long ago."""
        for known, job in list(self.known.items()):
            old = time.monotonic() - job.at > KEEP or len(self.known) > KNOWN
            if old and not isinstance(job.news, Progress):
                del self.known[known]
        return self.known.get(name)

    def start(self, file: bytes) -> str:
        """Start a job, unless one runs with the same file, and give its name."""
        name = hashlib.sha256(file).hexdigest()[:32]
        job = self.find(name)
        if job is None or not isinstance(job.news, Progress):
            self.known[name] = Job()
            self.group.start_soon(self.run, self.known[name], file)
        return name

    async def run(self, job: Job, file: bytes) -> None:
        """Do a job in a thread. However it ends, its watchers are told."""
        end: Completed | Failed = Failed(reason="Something is wrong with the server")
        try:
            async with self.places:
                end = await in_thread(import_file, job, file, self.database, self.stop)
        except FileError as error:
            end = Failed(line=error.args[0], reason=error.args[1])
        except Exception:
            log.exception("An import failed")
        finally:
            job.tell(end)


# --8<-- [end:jobs]
# --8<-- [start:routes]
LIMIT = 10 * 1000**2  # bytes of a file
ARRIVAL = 60.0  # seconds in which a file must arrive
COLUMNS = "(id INTEGER PRIMARY KEY, item TEXT, quantity INTEGER, price TEXT)"


def when_told_to_stop(stop: Callable[[], None]) -> None:
    """Call `stop` at SIGTERM or Ctrl+C: a server would first wait for its streams."""
    servers = signal.getsignal(signal.SIGTERM)
    # Python lets only the main thread handle signals.
    if not callable(servers) or current_thread() is not main_thread():
        return
    loop = asyncio.get_running_loop()

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(stop)
        servers(number, frame)

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Jobs]]:
    """Own the database and the jobs: in the end they are stopped and awaited."""
    with TemporaryDirectory() as folder:
        database = Path(os.environ.get("ORDERS_DB") or f"{folder}/orders.sqlite")
        with closing(sqlite3.connect(database)) as connection:
            connection.execute(f"CREATE TABLE IF NOT EXISTS orders {COLUMNS}")
        async with create_task_group() as group:
            jobs = Jobs(group, database)
            when_told_to_stop(jobs.stop.set)
            yield {"jobs": jobs}
            jobs.stop.set()


app = FastAPI(title="sse_progress", lifespan=lifespan)


@app.post("/jobs", status_code=202, max_body_size=LIMIT)
async def start(request: Request) -> Response:
    """Take a file, start its job, and say where to watch it."""
    jobs: Jobs = request.state.jobs
    if jobs.places.locked():
        raise HTTPException(503, "Too many imports", headers={"Retry-After": "5"})
    try:
        async with asyncio.timeout(ARRIVAL), jobs.places:
            file = await request.body()
    except (TimeoutError, ClientDisconnect):
        raise HTTPException(408, "The file did not arrive in time") from None
    # Relative to /jobs, so that it holds behind any prefix.
    where = {"Location": f"jobs/{jobs.start(file)}/events"}
    return Response(status_code=202, headers=where)


def find_job(request: Request, name: str) -> Job:
    """Find a job; raises HTTPException (404), which must be before the stream."""
    job: Job | None = request.state.jobs.find(name)
    if job is None:
        raise HTTPException(404, "This process knows no such job")
    return job


Found = Annotated[Job, Depends(find_job)]


@app.get("/jobs/{name}/events", response_class=EventSourceResponse)
async def events(job: Found) -> AsyncIterator[ServerSentEvent]:
    """Tell a watcher how far a job is, and how it ended."""
    async for news in job.watch():
        yield ServerSentEvent(data=news, event=news.event)


@app.get("/orders")
def orders(request: Request) -> dict[str, int]:
    """Count the orders in the table."""
    with closing(sqlite3.connect(request.state.jobs.database)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM orders").fetchone()
    return {"orders": count}


@app.get("/")
def page() -> FileResponse:
    """Send a file and watch its job in a browser."""
    return FileResponse(Path(__file__).with_suffix(".html"))


# --8<-- [end:routes]
if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8000)
