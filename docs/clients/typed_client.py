"""Print the events of order 7, each checked against the model of its type.

Needs httpx2 and pydantic (pip install httpx2 pydantic), typed_client_models.py beside
it, and the recipe running on port 8000.
"""

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import assert_never

import httpx2
from typed_client_models import Delivered, OrderEvent, Paid, Placed, Shipped

SERVER = "http://127.0.0.1:8000"
TIMEOUT = httpx2.Timeout(5, read=30)  # seconds; FastAPI pings after 15 silent ones
TRIES = 5  # connections in a row that bring no event
LONGEST = 30.0  # seconds between two of them

AnyEvent = Placed | Paid | Shipped | Delivered


async def order_events(
    client: httpx2.AsyncClient, order_id: int, last_id: str = "", wait: float = 1.0
) -> AsyncGenerator[AnyEvent, None]:
    """Give every event of an order once, up to the last, over as many connections.

    `last_id` is the id of an event that you have, `wait` are the seconds before the
    first reconnect. To stop, leave the loop and close the generator.

    Raises:
        pydantic.ValidationError: what came is no event of the schema.
        httpx2.HTTPStatusError: the server refuses (4xx), or has failed too often.
        httpx2.TransportError: the connection has failed too often.
    """
    url = f"{SERVER}/orders/{order_id}/events"
    failed = 0
    while True:
        headers = {"Last-Event-ID": last_id} if last_id else {}
        try:
            async with client.sse(url, headers=headers) as messages:
                if messages.response.status_code == 204:
                    return
                messages.response.raise_for_status()
                async for message in messages:
                    if not message.data:
                        continue  # The standard drops what has no data.
                    failed = 0
                    event = OrderEvent.model_validate_json(message.data).root
                    yield event
                    if isinstance(event, Delivered):
                        return
                    last_id = message.id or last_id
        except httpx2.SSEError:
            raise  # The answer is no event stream; the next one would not be, either.
        except httpx2.TransportError:
            if failed + 1 >= TRIES:
                raise
        except httpx2.HTTPStatusError as error:
            if error.response.status_code < 500 or failed + 1 >= TRIES:
                raise
        longest = min(wait * 2**failed, LONGEST)
        failed += 1
        await asyncio.sleep(random.uniform(longest / 2, longest))  # noqa: S311


def text(event: AnyEvent) -> str:
    """Describe an event. mypy complains if a type of the schema has no case."""
    match event:
        case Placed():
            return f"placed: {', '.join(event.items)}"
        case Paid():
            return f"paid: {event.cents / 100:.2f} €"
        case Shipped():
            return f"shipped with {event.carrier}, expected on a {event.expected:%A}"
        case Delivered():
            return f"delivered, signed by {event.signed_by or 'nobody'}"
        case _:
            assert_never(event)


async def main() -> None:
    """Print the events as they come."""
    async with (
        httpx2.AsyncClient(timeout=TIMEOUT) as client,
        aclosing(order_events(client, 7)) as events,
    ):
        async for event in events:
            print(text(event), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
