# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "fastapi>=0.165", "httpx2>=2.16", "openai>=3.52", "stamina>=26.1", "uvicorn>=0.54"
# ]
#
# [tool.cookbook]
# needs = ["model"]
# ///
"""Wrong: three tries of your own, and in each of them the SDK tries three times.

Run it:   uvicorn recipes.pitfalls.llm_errors.retries_multiply:app
Try it:   curl 'http://127.0.0.1:8000/answer?model=server-error'
See it:   {"requests":9}
"""

# --8<-- [start:wrong]
from contextlib import suppress

import httpx2
import openai
import stamina
from fastapi import FastAPI

app = FastAPI()


@app.get("/answer")
async def answer(model: str) -> dict[str, int]:
    """Tell how many requests one question has cost."""
    sent: list[str] = []

    async def note(request: httpx2.Request) -> None:
        sent.append(request.method)

    @stamina.retry(on=openai.APIError, attempts=3, wait_jitter=0)
    async def ask(client: openai.AsyncOpenAI) -> None:
        await client.chat.completions.create(model=model, messages=[])

    http = openai.DefaultAsyncHttpxClient(event_hooks={"request": [note]})
    async with openai.AsyncOpenAI(http_client=http) as client:
        with suppress(openai.APIError):  # The provider is down.
            await ask(client)
    return {"requests": len(sent)}


# --8<-- [end:wrong]
