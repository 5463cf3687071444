"""recipes.chunk_framing, with a record of how much of its uploads it has taken.

`/taken` gives the number of bytes that the application has received so far.
"""

from starlette.types import Message, Receive, Scope, Send

from recipes import chunk_framing

taken = 0


@chunk_framing.app.get("/taken")
async def give() -> int:
    """Tell how many bytes have been taken."""
    return taken


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the recipe, and count what it receives."""

    async def counted() -> Message:
        global taken
        message = await receive()
        taken += len(message.get("body", b""))
        return message

    await chunk_framing.app(scope, counted, send)
