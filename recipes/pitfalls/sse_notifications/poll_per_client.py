"""Wrong: every open stream asks the database again and again, for nothing.

Run it:   uvicorn recipes.pitfalls.sse_notifications.poll_per_client:app
Try it:   curl -Z --parallel-immediate -N --no-progress-meter \
http://127.0.0.1:8000/events http://127.0.0.1:8000/events http://127.0.0.1:8000/events
          curl http://127.0.0.1:8000/queries
See it:   {"changes":0,"queries":60}
"""

# --8<-- [start:program]
import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.sse import EventSourceResponse

from recipes.sse_notifications import Account, Init, Order

app = FastAPI()
queries: list[Init] = []


class CountedAccount(Account):
    """An account that counts what it is asked."""

    async def read(self) -> Init:
        """Give everything, as it is now."""
        snapshot = await super().read()
        queries.append(snapshot)
        return snapshot


account = CountedAccount(Order(id=7, item="green tea", state="placed"))


@app.get("/queries")
def count() -> dict[str, int]:
    """Compare how often something changed with how often somebody asked."""
    return {"changes": account.version, "queries": len(queries)}


# --8<-- [end:program]
# --8<-- [start:wrong]
@app.get("/events", response_class=EventSourceResponse)
async def events() -> AsyncIterator[Init]:
    """Look for a change ten times a second; stop after two seconds, to be counted."""
    known = -1
    for _ in range(20):
        snapshot = await account.read()
        if snapshot.version != known:
            known = snapshot.version
            yield snapshot
        await asyncio.sleep(0.1)


# --8<-- [end:wrong]
