"""Send a model's tokens to a page of your own, without the SDK and its objects.

Start it beside the gateway: python docs/clients/llm_gateway_page.py
Ask it:  curl -N 'http://127.0.0.1:8003/answer?prompt=Why+is+tea+hot'
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import aiohttp
import orjson
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

GATEWAY = "http://127.0.0.1:8000"  # GATEWAY_URL names another one
SILENCE = 60.0  # seconds
LINE = 1_000_000  # bytes

Prompt = Annotated[str, Query(min_length=1, max_length=2000)]


class Usage(BaseModel):
    """How many tokens it were."""

    completion_tokens: int
    prompt_tokens: int
    total_tokens: int


# --8<-- [start:reframing]
def event(name: str, **fields: object) -> bytes:
    """Write one server-sent event, with JSON as its data."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), orjson.dumps(fields))


class Reframed:
    """The events of one answer, made of the provider's lines."""

    started = False
    reason = ""
    usage: dict[str, int] | None = None

    def events(self, lines: list[bytes]) -> list[bytes]:
        """Turn lines into events; raises an Exception for any other shape of chunk."""
        made = []
        for line in lines:
            if not line.startswith(b"data:") or line.endswith(b"[DONE]"):
                continue
            chunk = orjson.loads(line.removeprefix(b"data:"))
            if not self.started:
                made.append(event("start", id=chunk["id"], model=chunk["model"]))
                self.started = True
            for choice in chunk["choices"]:
                text = choice["delta"].get("content") or choice["delta"].get("refusal")
                if text:
                    made.append(event("token", text=str(text)))
                self.reason = str(choice.get("finish_reason") or self.reason)
            if chunk.get("usage"):
                self.usage = Usage.model_validate(chunk["usage"]).model_dump()
        return made


async def answer(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Give the events of an answer, as many at a time as tokens have come at once."""
    reframed = Reframed()
    last = event("failed", type="truncated", message="It broke off.", retryable=True)
    rest = b""
    try:
        async for piece in response.content.iter_any():
            *lines, rest = (rest + piece).split(b"\n")
            if len(rest) > LINE:
                raise ValueError("no end of a line")
            events = reframed.events([line.rstrip(b"\r") for line in lines])
            if events:
                yield b"".join(events)
        if reframed.reason:
            last = event("done", finish_reason=reframed.reason, usage=reframed.usage)
    except Exception as error:  # A chunk may have any shape; and nothing is repeated.
        again = isinstance(error, aiohttp.ClientError | TimeoutError)
        last = event(
            "failed", type="provider", message="It broke off.", retryable=again
        )
    yield last


# --8<-- [end:reframing]
@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """Keep the connections while the application runs."""
    url = os.environ.get("GATEWAY_URL") or GATEWAY
    key = os.environ.get("GATEWAY_KEY") or "not-needed"
    async with aiohttp.ClientSession(
        f"{url}/v1/",
        auto_decompress=False,
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=2.0),
        headers={"Authorization": f"Bearer {key}"},
        timeout=aiohttp.ClientTimeout(None, sock_connect=5.0, sock_read=SILENCE),
    ) as session:
        yield {"session": session}


async def opened(
    request: Request, prompt: Prompt
) -> AsyncIterator[aiohttp.ClientResponse]:
    """Ask while a status can still say no, and hang up in any case."""
    asked = {
        "model": os.environ.get("GATEWAY_MODEL") or "small",
        "messages": [{"role": "user", "content": prompt}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    session: aiohttp.ClientSession = request.state.session
    try:
        response = await session.post(
            "chat/completions", json=asked, allow_redirects=False
        )
    except (aiohttp.ClientError, TimeoutError):
        raise HTTPException(502, "The model did not answer.") from None
    async with response:
        if response.status != 200:
            raise HTTPException(502, "The model did not answer.")
        yield response


app = FastAPI(title="llm_gateway_page", lifespan=lifespan)
Opened = Annotated[aiohttp.ClientResponse, Depends(opened)]


@app.get("/answer")
async def stream_answer(response: Opened) -> StreamingResponse:
    """Send the events of `llm_openai`."""
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(answer(response), 200, headers, "text/event-stream")


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8003)
