# /// script
# [tool.cookbook]
# needs = ["postgres"]
# ///
"""Wrong: COPY into a buffer holds the whole export in memory before a byte is sent.

Run it:   uvicorn recipes.pitfalls.ndjson_database.copy_into_memory:app
Try it:   curl -sS -o /dev/null -D - http://127.0.0.1:8000/orders.csv
          curl -sS -o /dev/null -D - http://127.0.0.1:8000/whole.csv
See it:   content-length:
"""

import io
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncConnection

from recipes.ndjson_database import (
    Export,
    Order,
    Page,
    lifespan,
    open_export,
    read_pages,
    table,
)

app = FastAPI(lifespan=lifespan)


# --8<-- [start:copy]
async def copy(
    connection: AsyncConnection, query: Select[Any], *, header: bool
) -> bytes:
    """Let PostgreSQL write a query's rows as CSV; asyncpg knows COPY."""
    dialect = connection.dialect
    text = query.compile(dialect=dialect, compile_kwargs={"literal_binds": True})
    buffer = io.BytesIO()
    pooled = await connection.get_raw_connection()
    driver: Any = pooled.driver_connection
    await driver.copy_from_query(str(text), output=buffer, format="csv", header=header)
    return buffer.getvalue()


# --8<-- [end:copy]
# --8<-- [start:wrong]
@app.get("/whole.csv")
async def whole(request: Request) -> Response:
    """Copy all orders, and then send them."""
    async with request.state.engine.connect() as connection:
        body = await copy(connection, select(table).order_by(table.c.id), header=True)
    return Response(body, media_type="text/csv")


# --8<-- [end:wrong]
# --8<-- [start:right]
class CSVResponse(StreamingResponse):
    """A stream of CSV."""

    media_type = "text/csv"


async def as_csv(connection: AsyncConnection, query: Select[Any]) -> Page:
    """Copy one page: from its first id up to its last."""
    result = await connection.execute(query.with_only_columns(table.c.id))
    ids = result.scalars().all()
    last = ids[-1] if ids else 0
    rows = await copy(connection, query.where(table.c.id <= last), header=False)
    return Page(len(ids), last, rows)


@app.get("/orders.csv", response_class=CSVResponse)
async def by_copy(
    export: Annotated[Export, Depends(open_export)],
) -> AsyncIterator[bytes]:
    """Send a page as soon as it is copied."""
    yield ",".join(Order.model_fields).encode() + b"\n"
    async for page in read_pages(export, as_csv):
        yield page.content
    if not export.end.done:
        # CSV has no last line that could say so: the client sees a broken connection.
        raise RuntimeError("The export broke off.")


# --8<-- [end:right]
