"""Short lines of text: a plain generator, an async one, the route itself, and ASGI."""

from typing import Any

from benchmarks.harness import Bench, app

OURS = "Async generator"
VERSIONS = "benchmarks.versions.plain_text"


def read(body: bytes) -> list[Any]:
    """Take a body apart into lines."""
    return body.decode().splitlines(keepends=True)


def expected(n: int) -> list[Any]:
    """Say what the lines are."""
    return [f"packed: item {number}\n" for number in range(n)]


BENCH = Bench(
    slug="plain_text",
    unit="lines",
    versions=[
        app(
            "Plain generator",
            f"{VERSIONS}:app",
            "/sync?lines={n}",
            b"\n",
            "The endpoint returns a response that reads a `def` that yields. Starlette "
            "fetches each line from a thread.",
        ),
        app(
            OURS,
            f"{VERSIONS}:app",
            "/async?lines={n}",
            b"\n",
            "The endpoint returns a response that reads an `async def` that yields. No "
            "thread takes part.",
        ),
        app(
            "The endpoint is the generator",
            f"{VERSIONS}:app",
            "/route?lines={n}",
            b"\n",
            "The endpoint is an `async def` that yields. FastAPI reads it, and lets "
            "other work run after each line.",
        ),
        app(
            "Raw ASGI",
            f"{VERSIONS}:raw",
            "/?lines={n}",
            b"\n",
            "The same async generator without FastAPI: a function that hands each line "
            "to uvicorn itself. The difference is what FastAPI and Starlette cost.",
        ),
    ],
    ours=OURS,
    read=read,
    expected=expected,
)
