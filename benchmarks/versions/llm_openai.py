"""The recipe, and what tutorials show, each with a provider in a process of its own."""

import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from openai import AsyncOpenAI
from starlette.types import ASGIApp, Receive, Scope, Send

from recipes import llm_openai

PROVIDER = [sys.executable, "-m", "uvicorn", "benchmarks.versions.llm_provider:app"]


@contextmanager
def provider() -> Iterator[str]:
    """Start the provider, and give its address."""
    options = ["--port", "0", "--no-access-log", "--timeout-graceful-shutdown", "1"]
    with subprocess.Popen(
        [*PROVIDER, *options], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            said = ""
            while not (found := re.search(r"http://127\.0\.0\.1:\d+", said)):
                said = process.stderr.readline() if process.stderr else ""
                if not said:
                    raise RuntimeError("the provider did not start")
            yield found[0]
        finally:
            process.terminate()


def with_provider(app: ASGIApp) -> ASGIApp:
    """Lead an app to a provider, and to as many tokens as a request asks for."""

    async def led(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            with provider() as url:
                # For the client that measures; uvicorn tells its own port later.
                print(f"provider on port {url.rpartition(':')[2]}", file=sys.stderr)
                os.environ["OPENAI_BASE_URL"] = f"{url}{os.environ.get('PACE', '')}/v1"
                os.environ["OPENAI_API_KEY"] = "not-needed"
                await app(scope, receive, send)
            return
        query = parse_qs(scope["query_string"].decode())
        os.environ["OPENAI_MODEL"] = query["tokens"][0]
        await app(scope, receive, send)

    return led


tutorial = FastAPI()


@tutorial.get("/answer")
async def answer(prompt: str) -> StreamingResponse:
    """Do as most tutorials: a client for each request, and the bare token."""

    async def generate() -> AsyncIterator[str]:
        client = AsyncOpenAI()
        chunks = await client.chat.completions.create(
            model=os.environ["OPENAI_MODEL"],
            messages=[{"role": "user", "content": prompt}],
            stream=True,
        )
        async for chunk in chunks:
            text = chunk.choices[0].delta.content
            if text:
                yield f"data: {text}\n\n"
        yield "data: [DONE]\n\n"

    return StreamingResponse(generate(), media_type="text/event-stream")


recipe_app = with_provider(llm_openai.app)
tutorial_app = with_provider(tutorial)
