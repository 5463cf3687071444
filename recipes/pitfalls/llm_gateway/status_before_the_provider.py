# /// script
# [tool.cookbook]
# needs = ["model"]
# ///
"""Wrong: the head is sent before the provider has said whether there is an answer.

Run it:   uvicorn recipes.pitfalls.llm_gateway.status_before_the_provider:app
Try it:   curl -i http://127.0.0.1:8000/v1/chat/completions \
            --json '{"model": "rate-limited", "stream": true, "messages": []}'
See it:   HTTP/1.1 200 OK
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
    """Ask the provider, and give its bytes."""
    url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, json=asked) as response,
    ):
        async for chunk in response.content.iter_any():
            yield chunk


@app.post("/v1/chat/completions")
async def complete(asked: dict[str, Any]) -> StreamingResponse:
    """Pass an answer on: by the time anybody asks, the status has been sent."""
    return StreamingResponse(pass_on(asked), media_type="text/event-stream")


# --8<-- [end:wrong]
