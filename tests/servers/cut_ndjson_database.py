"""A server that sends one order and half of another, and then cuts the stream off."""

from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

app = FastAPI()
WHOLE = (
    '{"id":1,"placed_at":"2026-01-01T09:00:00Z","customer":"Zoë\u2028","price":"24.99"}'
)


@app.get("/database", response_class=StreamingResponse)
async def cut() -> AsyncIterator[str]:
    """End with an error in the middle of a line."""
    yield f"{WHOLE}\n{WHOLE[:20]}"
    raise RuntimeError("cut off")
