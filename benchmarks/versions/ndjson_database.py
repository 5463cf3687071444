"""Serve one version of the export: `python -m … sqlite|postgresql recipe|by_row|psql`.

The databases with a million orders lie in a folder for temporary files, and are made
by whoever comes first. PostgreSQL is started by the first process that needs it.
"""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, closing
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.types import ASGIApp

from recipes import ndjson_database as recipe
from recipes.ndjson_database import COLUMNS, lifespan, table
from tests.kit.postgres import Postgres, postgres, programs

COPY = """COPY (SELECT row_to_json(page) FROM
    (SELECT * FROM orders ORDER BY id LIMIT ROWS) AS page) TO STDOUT"""
MORE = """INSERT INTO orders SELECT id + ?, placed_at, customer, item, quantity, price,
    state FROM orders WHERE id <= ?"""
FOLDER = Path(tempfile.gettempdir())
by_row = FastAPI(lifespan=lifespan)


@by_row.get("/orders")
async def export(request: Request, limit: int) -> StreamingResponse:
    """Stream the rows as most examples do."""

    async def rows() -> AsyncIterator[str]:
        async with AsyncSession(request.state.engine) as session:
            result = await session.stream(
                select(*COLUMNS).order_by(table.c.id).limit(limit)
            )
            async for row in result:
                yield json.dumps(dict(row._mapping), default=str) + "\n"
        yield json.dumps({"done": True, "rows": limit}) + "\n"

    return StreamingResponse(rows(), media_type="application/x-ndjson")


APPS: dict[str, ASGIApp] = {
    "recipe": recipe.app,
    "by_row": by_row,
}


def shared_postgres(stack: ExitStack) -> Postgres:
    """Give the PostgreSQL of this run; the first process starts it, the others find it.

    The first is the one that can make the note of where it is; it ends PostgreSQL when
    it ends itself.
    """
    note = FOLDER / f"ndjson_database-{os.getppid()}.json"
    try:
        with note.open("x") as file:
            stack.callback(note.unlink)
            running = stack.enter_context(postgres())
            json.dump({"port": running.port}, file)
            return running
    except FileExistsError:
        pass
    while not (text := note.read_text()):
        time.sleep(0.1)
    folder = programs()
    if folder is None:
        raise RuntimeError("PostgreSQL has gone")
    return Postgres(json.loads(text)["port"], 0, folder)


def measure_psql(server: Postgres) -> None:
    """Let psql copy as many rows as each line of the input says."""
    for line in sys.stdin:
        copy = COPY.replace("ROWS", line.strip())
        with tempfile.TemporaryFile() as file:
            began = time.perf_counter()
            subprocess.run(server.psql("-c", copy), check=True, stdout=file)
            seconds = time.perf_counter() - began
            file.seek(0)
            units = sum(1 for _ in file)
        print(json.dumps({"seconds": seconds, "units": units}), flush=True)


def million(file: Path) -> None:
    """Make an SQLite file with a million orders, unless it is there."""

    async def begin() -> None:
        async with lifespan(by_row):
            pass

    asyncio.run(begin())
    with closing(sqlite3.connect(file, timeout=60)) as connection, connection:
        connection.execute("BEGIN IMMEDIATE")
        (last,) = connection.execute("SELECT max(id) FROM orders").fetchone()
        for shift in range(last, 1_000_000, recipe.ROWS):
            connection.execute(MORE, (shift, recipe.ROWS))


def main() -> None:
    """Run what the command line asks for."""
    database, what = sys.argv[1:]
    # uvicorn stops at SIGTERM and then sends it on: leave by way of the blocks.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with ExitStack() as stack:
        if database == "postgresql":
            server = shared_postgres(stack)
            os.environ["DATABASE_URL"] = server.url
            if what == "psql":
                measure_psql(server)
                return
        else:
            file = FOLDER / "ndjson_database-million.sqlite"
            os.environ["DATABASE_URL"] = f"sqlite+aiosqlite:///{file}"
            million(file)
        uvicorn.run(APPS[what], port=0, access_log=False, timeout_graceful_shutdown=1)


if __name__ == "__main__":
    main()
