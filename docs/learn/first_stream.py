import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

app = FastAPI()


async def brew() -> AsyncIterator[str]:
    for minute in range(1, 6):
        await asyncio.sleep(1)
        yield f"{minute} min: the tea is getting stronger\n"


@app.get("/")
async def tea() -> StreamingResponse:
    return StreamingResponse(brew(), media_type="text/plain")
