# /// script
# [tool.cookbook]
# needs = ["model"]
# ///
"""Wrong: a tool is used while its arguments still come in.

Run it:   uvicorn recipes.pitfalls.llm_anthropic.arguments_before_whole:app
Try it:   curl 'http://127.0.0.1:8000/order?prompt=Where+is+order+42&model=tool-arguments'
See it:   {"order_id":4}
"""

# --8<-- [start:wrong]
from anthropic import AsyncAnthropic
from fastapi import FastAPI, HTTPException

app = FastAPI()


@app.get("/order")
async def order(prompt: str, model: str) -> dict[str, object]:
    """Look up the order as soon as the model has said which one."""
    async with (
        AsyncAnthropic() as client,
        client.messages.stream(
            model=model,
            messages=[{"role": "user", "content": prompt}],
            max_tokens=1000,
        ) as stream,
    ):
        async for event in stream:
            if event.type == "input_json" and isinstance(event.snapshot, dict):
                arguments = event.snapshot  # What the SDK has understood so far.
                if "order_id" in arguments:
                    return {"order_id": arguments["order_id"]}
    raise HTTPException(404, "The model has asked for no order.")


# --8<-- [end:wrong]
