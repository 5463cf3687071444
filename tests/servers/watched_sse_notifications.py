"""The recipe sse_notifications, with a count of what a client has left behind."""

import asyncio
import gc
import json
import sys
from collections.abc import AsyncIterator
from types import AsyncGeneratorType

from starlette.types import ASGIApp, Receive, Scope, Send

from recipes import sse_notifications
from recipes.sse_notifications import Account

made: list[Account] = []


class WatchedAccount(Account):
    """An account that can be found."""

    def __init__(self, *orders: sse_notifications.Order) -> None:
        super().__init__(*orders)
        made.append(self)


def left() -> dict[str, object]:
    """Count what streams have open; the garbage collector has no part in it."""
    found = [one for one in gc.get_objects() if isinstance(one, AsyncGeneratorType)]
    ours = [one for one in found if "sse_notifications" in str(one.ag_code)]
    names = [one.__name__ for one in ours if one.ag_frame is not None]
    names.remove("lifespan")
    return {
        "streams": sum(len(account.channel.queues) for account in made),
        "generators": len(names),
        "suspended": names,
        "tasks": len(asyncio.all_tasks()),
    }


async def until_one_has_read(account: Account) -> None:
    """Wait for the fastest of its clients."""
    for _ in range(100_000):
        if not min((queue.qsize() for queue in account.channel.queues), default=0):
            return
        await asyncio.sleep(0)


async def flood() -> None:
    """Send ada a thousand big messages, each as soon as one client has taken the last.

    A client that reads gets all of them, whatever another does.
    """
    ada = made[0]
    for number in range(1000):
        await ada.add_message(f"{number} " + "\U0001f375" * 25_000)
        await until_one_has_read(ada)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the recipe; `/left` and `/flood` are the test's."""
    if scope["type"] != "http":
        await sse_notifications.app(scope, receive, send)
        return
    if scope["path"] in ("/left", "/flood"):
        if scope["path"] == "/flood":
            await flood()
        body = json.dumps(left()).encode()
        head = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": body})
        return
    try:
        await sse_notifications.app(scope, receive, send)
    finally:
        sys.stdout.write(f"over {scope['path']}\n")


def watched() -> ASGIApp:
    """Give the recipe, watched; nothing is collected."""
    gc.disable()
    sse_notifications.Account = WatchedAccount  # type: ignore[misc]
    return app


def silent() -> ASGIApp:
    """Give the same, without heartbeats."""
    sse_notifications.HEARTBEAT = 60
    return watched()


async def skipped(*_: object) -> AsyncIterator[sse_notifications.Event]:
    """Give a snapshot, and a heartbeat that tells of a change that nobody got."""
    yield sse_notifications.Init(type="init", version=0, orders=[], messages=[])
    yield sse_notifications.Heartbeat(type="heartbeat", version=1)


def skipping() -> ASGIApp:
    """Give the recipe with such a feed."""
    sse_notifications.follow = skipped  # type: ignore[assignment]
    return app
