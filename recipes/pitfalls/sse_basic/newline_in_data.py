"""Wrong: a line end inside `data` ends the event, and what follows forges another.

Run it:   uvicorn recipes.pitfalls.sse_basic.newline_in_data:app
Try it:   curl "http://127.0.0.1:8000/note?text=one%0Atwo"
          curl "http://127.0.0.1:8000/note?text=hello%0A%0Aevent:%20admin%0Adata:%20x"
See it:   event: admin
"""

from collections.abc import Iterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

app = FastAPI()


# --8<-- [start:wrong]
def events(note: str) -> Iterator[str]:
    """Send what a customer wrote, as it is."""
    yield f"event: note\ndata: {note}\n\n"


# --8<-- [end:wrong]
@app.get("/note")
def note(text: str) -> StreamingResponse:
    """Stream the note."""
    return StreamingResponse(events(text), media_type="text/event-stream")
