"""Wrong: sse-starlette writes a dict as Python does, and `JSON.parse` fails on it.

Run it:   uvicorn recipes.pitfalls.sse_basic.dict_as_data:app
Try it:   curl http://127.0.0.1:8000/json-events
          curl http://127.0.0.1:8000/events
See it:   data: {'id': 7, 'state': 'paid', 'gift': None}
"""

from collections.abc import AsyncIterator

# --8<-- [start:imports]
import fastapi.sse
import sse_starlette
from fastapi import FastAPI

# --8<-- [end:imports]
app = FastAPI()


# --8<-- [start:wrong]
async def events() -> AsyncIterator[sse_starlette.ServerSentEvent]:
    """Hand a dict to sse-starlette and hope for JSON."""
    yield sse_starlette.ServerSentEvent(data={"id": 7, "state": "paid", "gift": None})


@app.get("/events")
async def feed() -> sse_starlette.EventSourceResponse:
    """Stream the dict as it is."""
    return sse_starlette.EventSourceResponse(events())


# --8<-- [end:wrong]
# --8<-- [start:right]
@app.get("/json-events", response_class=fastapi.sse.EventSourceResponse)
async def json_feed() -> AsyncIterator[fastapi.sse.ServerSentEvent]:
    """Hand the same dict to FastAPI, which writes `data` as JSON."""
    yield fastapi.sse.ServerSentEvent(data={"id": 7, "state": "paid", "gift": None})


# --8<-- [end:right]
