"""docs.production.diagnosis with its time in a test's hands.

After each order it waits until somebody asks for `/go`; one `/go` frees one wait.
"""

import asyncio
from types import SimpleNamespace
from unittest import mock

from docs.production import diagnosis

app = diagnosis.app
waiting = asyncio.Semaphore(0)


async def hold(_: float) -> None:
    """Wait for `/go`."""
    await waiting.acquire()


mock.patch.object(diagnosis, "asyncio", SimpleNamespace(sleep=hold)).start()


@app.get("/go", status_code=204)
async def go() -> None:
    """Let one stream make its next order."""
    waiting.release()
