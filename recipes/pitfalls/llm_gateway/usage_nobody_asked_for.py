# /// script
# [tool.cookbook]
# needs = ["model"]
# ///
"""Wrong: the gateway asks for the usage, and clients that did not ask get it too.

Run it:   uvicorn recipes.pitfalls.llm_gateway.usage_nobody_asked_for:app
Try it:   curl -N http://127.0.0.1:8000/v1/chat/completions \
            --json '{"model": "ok", "stream": true, "messages": []}'
See it:   "choices":[]
"""

# --8<-- [start:wrong]
import os
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

app = FastAPI()


async def pass_on(asked: dict[str, Any]) -> AsyncIterator[bytes]:
    """Ask for the usage as well, and give all bytes of the answer."""
    url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
    asked["stream_options"] = {"include_usage": True}
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, json=asked) as response,
    ):
        async for chunk in response.content.iter_any():
            yield chunk


# --8<-- [end:wrong]
@app.post("/v1/chat/completions")
async def complete(asked: dict[str, Any]) -> StreamingResponse:
    """Pass an answer on."""
    return StreamingResponse(pass_on(asked), media_type="text/event-stream")
