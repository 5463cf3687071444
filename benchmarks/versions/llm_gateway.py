"""Ways to pass tokens on, each with a fast provider in a process of its own."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs

import httpx2
import orjson
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recipes import llm_gateway, llm_openai

PROVIDER = [sys.executable, "-m", "benchmarks.versions.llm_gateway_provider"]
PAGE = Path(__file__).parents[2] / "docs/clients/llm_gateway_page.py"


@contextmanager
def provider() -> Iterator[str]:
    """Start the provider, and give its address."""
    with subprocess.Popen(PROVIDER, stderr=subprocess.PIPE, text=True) as process:
        try:
            said = process.stderr.readline() if process.stderr else ""
            if not re.match(r"http://127\.0\.0\.1:\d+", said):
                raise RuntimeError("the provider did not start")
            yield said.strip()
        finally:
            process.terminate()


def with_provider(app: ASGIApp) -> ASGIApp:
    """Lead an app to a provider, and to as many tokens as a request asks for.

    A GET of the client that measures becomes the POST that a gateway needs.
    """

    async def led(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            with provider() as url:
                # For the client that measures; uvicorn tells its own port later.
                sys.stderr.write(f"provider on port {url.rpartition(':')[2]}\n")
                os.environ["OPENAI_BASE_URL"] = f"{url}/v1"
                os.environ["GATEWAY_URL"] = url
                os.environ["OPENAI_API_KEY"] = "key"
                # A model's name may say anything: the gateway's list is read once.
                await app(scope, receive, send)
            return
        tokens = parse_qs(scope["query_string"].decode())["tokens"][0]
        os.environ["OPENAI_MODEL"] = tokens
        os.environ["GATEWAY_MODEL"] = tokens
        if scope["path"] != "/v1/chat/completions":
            await app(scope, receive, send)
            return
        asked = {"model": tokens, "stream": True, "messages": []}
        body = json.dumps(asked).encode()
        fields = [
            (b"authorization", b"Bearer key"),
            (b"content-type", b"application/json"),
        ]
        given = False

        async def post() -> Message:
            nonlocal given
            if given:
                await receive()  # The request of the client, which has no body.
                return await receive()
            given = True
            return {"type": "http.request", "body": body}

        scope["state"]["models"] = {tokens: tokens}
        await app({**scope, "method": "POST", "headers": fields}, post, send)

    return led


def module(path: Path) -> ModuleType:
    """Import a file that lies in no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(str(path))
    made = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = made
    spec.loader.exec_module(made)
    return made


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """Keep one client of httpx2."""
    async with httpx2.AsyncClient(timeout=60) as client:
        yield {"client": client}


httpx2_app = FastAPI(lifespan=lifespan)


def chosen(tokens: str) -> dict[str, Any]:
    """Make the body of a request to the provider."""
    return {"model": tokens, "stream": True, "messages": []}


@httpx2_app.get("/events")
async def events(request: Request, tokens: str) -> StreamingResponse:
    """Read the provider's events with httpx2, and write our own."""

    async def made() -> AsyncIterator[bytes]:
        url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
        client: httpx2.AsyncClient = request.state.client
        async with client.stream("POST", url, json=chosen(tokens)) as response:
            async for event in httpx2.EventSource(response):
                if event.data == "[DONE]":
                    return
                for choice in orjson.loads(event.data)["choices"]:
                    if text := choice["delta"].get("content"):
                        data = orjson.dumps({"text": text})
                        yield b"event: token\ndata: %s\n\n" % data

    return StreamingResponse(made(), media_type="text/event-stream")


@httpx2_app.get("/bytes")
async def passed(request: Request, tokens: str) -> StreamingResponse:
    """Pass the provider's bytes on with httpx2."""

    async def made() -> AsyncIterator[bytes]:
        url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
        client: httpx2.AsyncClient = request.state.client
        async with client.stream("POST", url, json=chosen(tokens)) as response:
            async for chunk in response.aiter_raw():
                yield chunk

    return StreamingResponse(made(), media_type="text/event-stream")


sdk_app = with_provider(llm_openai.app)
httpx2_versions = with_provider(httpx2_app)
page_app = with_provider(module(PAGE).app)
gateway_app = with_provider(llm_gateway.app)
# What is measured is not how soon a key has used up its minute.
llm_gateway.TOKENS = 10**12
llm_gateway.STREAMS = 10**6
