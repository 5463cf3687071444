"""The recipe stream_limits with other numbers, counted; nothing is collected.

The numbers come from the environment. `BIG` makes each order that many characters.
`GET /counts` gives the open streams and the tasks; `GET /big` a large body. `POST
/take` and `POST /free` are about a place. With `HURRY` a client may come back after a
second.
"""

import asyncio
import gc
import os
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import Response
from limits import RateLimitItemPerMinute

from recipes import stream_limits as recipe

gc.disable()
NUMBERS: dict[str, type[float]] = {
    "TICK": float,
    "LIFETIME": float,
    "PATIENCE": float,
    "JITTER": float,
}
NUMBERS |= {"SESSION": int, "EACH": int, "ALL": int}
for name, kind in NUMBERS.items():
    if name in os.environ:
        vars(recipe)[name] = kind(os.environ[name])
if "RATE" in os.environ:
    vars(recipe)["RATE"] = RateLimitItemPerMinute(int(os.environ["RATE"]))
app = recipe.app
too_many = recipe.too_many
if "HURRY" in os.environ:
    vars(recipe)["too_many"] = lambda why, _: too_many(why, 1)


async def big_orders() -> AsyncGenerator[str | None, None]:
    """Give orders that fill the buffers of a client that does not read."""
    while True:
        yield "x" * int(os.environ["BIG"])
        await asyncio.sleep(0)


if "BIG" in os.environ:
    vars(recipe)["orders"] = big_orders


@app.get("/counts")
async def counts() -> dict[str, Any]:
    """Count what is left."""
    return {"open": recipe.open_streams, "tasks": len(asyncio.all_tasks())}


@app.get("/big")
async def big() -> Response:
    """Give more than the buffers between here and a client take."""
    return Response(b"x" * 32_000_000)


@app.post("/take")
async def take() -> None:
    """Take a place."""
    recipe.open_streams.append("somebody")


@app.post("/free")
async def free() -> None:
    """Give it back."""
    recipe.open_streams.remove("somebody")
