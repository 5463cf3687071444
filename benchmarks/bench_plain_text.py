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
        app("Sync generator", f"{VERSIONS}:app", "/sync?lines={n}", b"\n"),
        app(OURS, f"{VERSIONS}:app", "/async?lines={n}", b"\n"),
        app("The route is the generator", f"{VERSIONS}:app", "/route?lines={n}", b"\n"),
        app("Raw ASGI", f"{VERSIONS}:raw", "/?lines={n}", b"\n"),
    ],
    ours=OURS,
    read=read,
    expected=expected,
)
