"""The recipe sse_database with a watcher that looks never, or all the time."""

from starlette.types import Receive, Scope, Send

from recipes import sse_database


async def never_looks(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the recipe; without a ring it would look once an hour."""
    sse_database.POLL = {"postgresql": 3600.0}
    await sse_database.app(scope, receive, send)


async def looks_often(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the recipe; it looks every tenth of a second."""
    sse_database.POLL = {"postgresql": 0.1}
    sse_database.RETRY = 100
    await sse_database.app(scope, receive, send)
