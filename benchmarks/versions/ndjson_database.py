"""Serve one version of the export: `python -m … sqlite|postgresql recipe|by_row|psql`.

The databases with a million orders lie in a folder for temporary files, and are made
by whoever comes first. PostgreSQL is started by the first process that needs it.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.types import ASGIApp

from recipes import ndjson_database as recipe
from recipes.ndjson_database import COLUMNS, lifespan, table
from recipes.pitfalls.ndjson_database import copy_into_memory
from tests.kit.postgres import Postgres, postgres, programs

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
    "csv": copy_into_memory.app,
}
