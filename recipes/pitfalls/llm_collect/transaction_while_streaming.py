# /// script
# [tool.cookbook]
# needs = ["model"]
# ///
"""Wrong: a transaction is open as long as the answer streams.

Run it:   uvicorn recipes.pitfalls.llm_collect.transaction_while_streaming:app
Try it:   curl -Z --parallel-immediate --no-progress-meter --max-time 4 \
            'http://127.0.0.1:8000/answer?prompt=one&model=long' \
            'http://127.0.0.1:8000/answer?prompt=two&model=long'
See it:   Internal Server Error
"""

# --8<-- [start:wrong]
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import sqlalchemy as sql
from fastapi import Depends, FastAPI
from fastapi.responses import StreamingResponse
from openai import AsyncOpenAI
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

app = FastAPI()
folder = tempfile.TemporaryDirectory()
file = Path(folder.name) / "answers.sqlite"
# A connection waits for one second when another one writes.
engine = create_async_engine(f"sqlite+aiosqlite:///{file}?timeout=1")
table = sql.Table("answers", sql.MetaData(), sql.Column("text", sql.Text))


async def begin() -> AsyncIterator[AsyncConnection]:
    """Begin a transaction, and commit it when the answer has ended."""
    async with engine.begin() as connection:
        await connection.run_sync(table.create, checkfirst=True)
        await connection.execute(sql.insert(table), {"text": ""})
        yield connection


async def tokens(
    connection: AsyncConnection, prompt: str, model: str
) -> AsyncIterator[str]:
    """Stream an answer, and write it into the row that is there already."""
    text = ""
    async with (
        AsyncOpenAI() as client,
        await client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": prompt}], stream=True
        ) as chunks,
    ):
        async for chunk in chunks:
            for choice in chunk.choices:
                piece = choice.delta.content or ""
                text += piece
                yield piece
    await connection.execute(sql.update(table), {"text": text})


@app.get("/answer")
async def answer(
    connection: Annotated[AsyncConnection, Depends(begin)], prompt: str, model: str
) -> StreamingResponse:
    """Stream the text of an answer."""
    return StreamingResponse(tokens(connection, prompt, model), media_type="text/plain")


# --8<-- [end:wrong]
