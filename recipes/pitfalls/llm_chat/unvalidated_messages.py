# /// script
# requires-python = ">=3.11"
# dependencies = ["fastapi>=0.165", "openai>=3.52", "uvicorn>=0.54"]
#
# [tool.cookbook]
# needs = ["model"]
# ///
"""Wrong: what a client sends as messages goes to the provider, and onto your bill.

Run it:   uvicorn recipes.pitfalls.llm_chat.unvalidated_messages:app
Try it:   curl http://127.0.0.1:8000/chat --json '{"model": "usage", "messages": []}'
See it:   Four orders are open.
"""

# --8<-- [start:wrong]
from typing import Any

from fastapi import FastAPI
from openai import AsyncOpenAI

app = FastAPI()


@app.post("/chat")
async def chat(asked: dict[str, Any]) -> str | None:
    """Pass on whatever came: roles, lengths, limits, even another model."""
    options: dict[str, Any] = {"model": "gpt-5.6-luna", **asked}
    async with AsyncOpenAI() as client:
        answer = await client.chat.completions.create(**options)
    text: str | None = answer.choices[0].message.content
    return text


# --8<-- [end:wrong]
