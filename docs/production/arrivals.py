"""Print when each piece of a stream comes, whoever makes it.

python -m docs.production.arrivals docs.production.diagnosis:all_orders
python -m docs.production.arrivals docs.production.diagnosis:app /orders
python -m docs.production.arrivals http://127.0.0.1:8000/orders
"""

import asyncio
import inspect
import sys
import time
from collections.abc import AsyncIterable, Iterable

import httpx2
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from uvicorn.importer import import_from_string


def from_generator(name: str) -> None:
    """Ask the generator itself: there is no FastAPI yet, and no HTTP."""
    make = import_from_string(name)
    if isinstance(make, Starlette):
        sys.exit(f"{name} is an application: add a path, such as /orders")
    try:
        inspect.signature(make).bind()
    except TypeError as error:
        sys.exit(f"{name}: {error}. Wrap it in a generator without arguments")
    pieces = make()
    begun = time.perf_counter()
    if isinstance(pieces, AsyncIterable):
        asyncio.run(from_async(pieces, begun))
    elif isinstance(pieces, Iterable):
        for piece in pieces:
            show(begun, piece)
    else:
        sys.exit(f"{name} is not a generator")


async def from_async(pieces: AsyncIterable[object], begun: float) -> None:
    """Ask a generator that waits in the event loop."""
    async for piece in pieces:
        show(begun, piece)


def from_application(name: str, path: str) -> None:
    """Ask the application in this process: there is no server yet, and no network."""
    with TestClient(import_from_string(name)) as client:
        begun = time.perf_counter()
        with client.stream("GET", path) as response:
            show_response(begun, response)


def from_url(url: str) -> None:
    """Ask over the network, and wait for as long as it takes."""
    begun = time.perf_counter()
    with httpx2.stream("GET", url, timeout=None) as response:
        show_response(begun, response)


def show_response(begun: float, response: httpx2.Response) -> None:
    """Print each chunk; before them the status, if it says that something is wrong."""
    if response.status_code != 200:
        print(f"status {response.status_code}", flush=True)
    for chunk in response.iter_raw():
        show(begun, chunk)


def show(begun: float, piece: object) -> None:
    """Print a piece, after the seconds that it took to come."""
    print(f"{time.perf_counter() - begun:5.1f} s  {piece!r}", flush=True)


def main(name: str, path: str | None = None) -> None:
    """Ask whom the arguments name."""
    if name.startswith(("http:", "https:")):
        from_url(name)
    elif path:
        from_application(name, path)
    else:
        from_generator(name)


if __name__ == "__main__":
    main(*sys.argv[1:])
