"""The recipe, and what tutorials show, each with a service in a process of its own."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import httpx2
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from recipes import http_proxy

MODULE = "benchmarks.versions.http_proxy_service"
SERVICE = [sys.executable, "-m", MODULE, "--until-eof"]


@contextmanager
def service() -> Iterator[str]:
    """Start the service, and give its address; it ends with its input."""
    with subprocess.Popen(
        SERVICE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        if process.stdout is None:
            raise RuntimeError("the service was started with pipes")
        yield process.stdout.readline().strip()


def with_service(app: ASGIApp) -> ASGIApp:
    """Lead an app to a service of its own."""

    async def led(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            with service() as url:
                os.environ["SHOP_URL"] = url
                await app(scope, receive, send)
            return
        await app(scope, receive, send)

    return led


tutorial = FastAPI()


@tutorial.get("/shop/{lines}")
async def pass_on(lines: int) -> StreamingResponse:
    """Open a client for each request, and pass on what it has decoded."""

    async def body() -> AsyncIterator[bytes]:
        url = f"{os.environ['SHOP_URL']}/{lines}"
        async with (
            httpx2.AsyncClient(timeout=None) as client,
            client.stream("GET", url) as response,
        ):
            async for chunk in response.aiter_bytes():
                yield chunk

    return StreamingResponse(body())


recipe_app = with_service(http_proxy.app)
tutorial_app = with_service(tutorial)
