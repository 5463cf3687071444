"""Wrong: a change between the snapshot and the subscription is lost.

Run it:   uvicorn recipes.pitfalls.sse_notifications.snapshot_before_subscribing:app
Try it:   curl -N --max-time 3 http://127.0.0.1:8000/without-a-hole
          curl -N --max-time 3 http://127.0.0.1:8000/with-a-hole
See it:   {"type":"heartbeat","version":0}
"""

# --8<-- [start:program]
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.sse import EventSourceResponse, ServerSentEvent

from recipes.sse_notifications import Account, Init, Order, follow

app = FastAPI()


class BusyAccount(Account):
    """An account whose order is paid for while somebody reads the account."""

    def __init__(self) -> None:
        super().__init__(Order(id=7, item="green tea", state="placed"))

    async def read(self) -> Init:
        """Give what the database held when it was asked."""
        snapshot = await super().read()
        await self.change_order(7, "paid")  # Another request does this.
        return snapshot


# --8<-- [end:program]
# --8<-- [start:wrong]
@app.get("/with-a-hole", response_class=EventSourceResponse)
async def with_a_hole() -> AsyncIterator[ServerSentEvent]:
    """Read the snapshot, then subscribe."""
    account = BusyAccount()
    snapshot = await account.read()
    yield ServerSentEvent(data=snapshot, event="init")
    with account.channel.subscribed() as queue:
        queue.get_nowait()  # START: the snapshot has been read.
        async for event in follow(account, queue):
            yield ServerSentEvent(data=event, event=event.type)


# --8<-- [end:wrong]
# --8<-- [start:right]
@app.get("/without-a-hole", response_class=EventSourceResponse)
async def without_a_hole() -> AsyncIterator[ServerSentEvent]:
    """Subscribe; `follow` reads the snapshot when it finds START in the queue."""
    account = BusyAccount()
    with account.channel.subscribed() as queue:
        async for event in follow(account, queue):
            yield ServerSentEvent(data=event, event=event.type)


# --8<-- [end:right]
