"""The recipe sse_database, which breaks off two connections and refuses a third.

It also answers at once, so that a client that waits as `retry` says is back soon.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recipes import sse_database

CUTS = [300, 500]  # chunks after which a connection breaks


def cut(app: ASGIApp) -> ASGIApp:
    """Break off one connection after the other, then let the rest be."""
    cuts = CUTS.copy()

    async def cutting(scope: Scope, receive: Receive, send: Send) -> None:
        left = cuts.pop(0) if scope["type"] == "http" and cuts else None

        async def sending(message: Message) -> None:
            nonlocal left
            if left is not None and message["type"] == "http.response.body":
                left -= 1
                if left == 0:
                    raise ConnectionError("cut")
            await send(message)

        await app(scope, receive, sending)

    return cutting


sse_database.RETRY = 10
app = cut(sse_database.app)
