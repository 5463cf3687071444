"""Wrong: JSON is put together by hand, and a name with a quote breaks it.

Run it:   uvicorn recipes.pitfalls.sse_progress.json_by_hand:app
Try it:   curl -N 'http://127.0.0.1:8000/typed-events?file=12%22-pots.csv'
          curl -N 'http://127.0.0.1:8000/events?file=12%22-pots.csv'
See it:   data: {"file": "12"-pots.csv", "percent": 33.33333333333333}
"""

# --8<-- [start:program]
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel

app = FastAPI()


# --8<-- [end:program]
# --8<-- [start:wrong]
@app.get("/events", response_class=EventSourceResponse)
async def events(file: str) -> AsyncIterator[ServerSentEvent]:
    """Tell how far the import of a file is."""
    for row in (1, 2, 3):
        percent = row / 3 * 100
        text = f'{{"file": "{file}", "percent": {percent}}}'
        yield ServerSentEvent(raw_data=text, event="progress")


# --8<-- [end:wrong]
# --8<-- [start:right]
class Progress(BaseModel):
    """How far the import of a file is."""

    file: str
    percent: int


@app.get("/typed-events", response_class=EventSourceResponse)
async def typed_events(file: str) -> AsyncIterator[ServerSentEvent]:
    """Let FastAPI write the JSON of a model."""
    for row in (1, 2, 3):
        progress = Progress(file=file, percent=100 * row // 3)
        yield ServerSentEvent(data=progress, event="progress")


# --8<-- [end:right]
