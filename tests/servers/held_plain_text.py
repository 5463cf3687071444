"""recipes.plain_text with its time in a test's hands.

No item leaves the shelf before somebody asks for `/go/async` or `/go/sync`. Order 3 has
a second item that cannot be read.
"""

import asyncio
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from unittest import mock

from recipes import plain_text
from recipes.plain_text import ORDERS, Order

WAIT = 15  # seconds, the limit of every wait

app = plain_text.app
for_threads = threading.Semaphore(0)
for_tasks = asyncio.Semaphore(0)


def hold(_: float) -> None:
    """Wait for `/go/sync` in a thread."""
    assert for_threads.acquire(timeout=WAIT)


async def hold_async(_: float) -> None:
    """Wait for `/go/async`."""
    await for_tasks.acquire()


mock.patch.object(plain_text, "time", SimpleNamespace(sleep=hold)).start()
mock.patch.object(plain_text, "asyncio", SimpleNamespace(sleep=hold_async)).start()


@app.get("/go/sync", status_code=204)
async def go() -> None:
    """Let one item leave the shelf for a plain generator."""
    for_threads.release()


@app.get("/go/async", status_code=204)
async def go_async() -> None:
    """Let one item leave the shelf for an async generator."""
    for_tasks.release()


class Broken(list[str]):
    """Items of which only the first can be read."""

    def __iter__(self) -> Iterator[str]:
        yield "green tea"
        raise OSError("the shelf is gone")


ORDERS[3] = Order.model_construct(id=3, customer="Eve", items=Broken())
