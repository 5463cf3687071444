"""Wrong: a line that cannot be read is passed over, and nobody hears of it.

Run it:   uvicorn recipes.pitfalls.chunk_framing.swallowed_line:app
Try it:   curl -sS -X POST -T docs/clients/orders.ndjson http://127.0.0.1:8000/orders
See it:   {"taken":[5,8]}
"""

# --8<-- [start:wrong]
from fastapi import FastAPI, Request

from recipes.chunk_framing import LineReader, Order

app = FastAPI()


@app.post("/orders")
async def take_orders(request: Request) -> dict[str, list[int]]:
    """Take the orders that can be read."""
    reader = LineReader()
    taken = []
    async for chunk in request.stream():
        for line in reader.feed(chunk):
            try:
                order = Order.model_validate_json(line.content)
            except ValueError:
                continue
            taken.append(order.id)
    return {"taken": taken}


# --8<-- [end:wrong]
