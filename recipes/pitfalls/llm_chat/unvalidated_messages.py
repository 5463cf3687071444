"""Wrong: what a client sends as messages goes to the provider, and onto your bill."""

import os
from typing import Any

from fastapi import FastAPI, Request

app = FastAPI()


# --8<-- [start:wrong]
@app.post("/chat")
async def chat(asked: dict[str, Any], request: Request) -> str | None:
    """Pass on whatever came: roles, lengths, limits, even another model."""
    asked = {"model": os.environ.get("OPENAI_MODEL"), **asked}
    answer = await request.state.client.chat.completions.create(**asked)
    text: str | None = answer.choices[0].message.content
    return text


# --8<-- [end:wrong]
