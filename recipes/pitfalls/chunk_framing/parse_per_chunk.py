"""Wrong: each chunk is parsed as if it were one line of JSON.

Run it:   uvicorn recipes.pitfalls.chunk_framing.parse_per_chunk:app
Try it:   curl -sS -X POST -T docs/clients/orders.ndjson http://127.0.0.1:8000/orders
See it:   Extra data: line 2 column 1 (char 44)
"""

# --8<-- [start:wrong]
import json

from fastapi import FastAPI, Request

app = FastAPI()


@app.post("/orders")
async def take_orders(request: Request) -> dict[str, list[str]]:
    """Take orders, one in each chunk; it works while you type them one by one."""
    told = []
    async for chunk in request.stream():
        if chunk:
            try:
                order = json.loads(chunk)
                told.append(f"taken: {order['id']}")
            except ValueError as error:
                told.append(str(error))
    return {"told": told}


# --8<-- [end:wrong]
