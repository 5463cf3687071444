"""Print when each piece of a stream comes, whoever makes it.

python -m docs.production.arrivals docs.production.diagnosis:all_orders
python -m docs.production.arrivals docs.production.diagnosis:app /orders
python -m docs.production.arrivals http://127.0.0.1:8000/orders
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator

import httpx2
from fastapi import FastAPI
from fastapi.testclient import TestClient
from uvicorn.importer import import_from_string


async def from_generator(pieces: AsyncIterator[object]) -> None:
    """Ask the generator itself: there is no FastAPI yet, and no HTTP."""
    begun = time.perf_counter()
    async for piece in pieces:
        show(begun, piece)


def from_application(app: FastAPI, path: str) -> None:
    """Ask the application in this process: there is no server yet, and no network."""
    with TestClient(app) as client:
        begun = time.perf_counter()
        with client.stream("GET", path) as response:
            for chunk in response.iter_raw():
                show(begun, chunk)


def from_url(url: str) -> None:
    """Ask over the network."""
    begun = time.perf_counter()
    with httpx2.stream("GET", url) as response:
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
        from_application(import_from_string(name), path)
    else:
        asyncio.run(from_generator(import_from_string(name)()))


if __name__ == "__main__":
    main(*sys.argv[1:])
