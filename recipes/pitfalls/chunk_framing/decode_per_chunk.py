"""Wrong: each chunk is decoded by itself, though it may end inside a character.

Run it:   uvicorn recipes.pitfalls.chunk_framing.decode_per_chunk:app
Try it:   curl -sSN 'http://127.0.0.1:8000/text?size=29'
          curl -sSN 'http://127.0.0.1:8000/replaced?size=29'
See it:   cr��me
"""

import codecs

# --8<-- [start:wrong]
from collections.abc import Iterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from recipes.chunk_framing import orders, rechunk

app = FastAPI()


@app.get("/text", response_class=StreamingResponse)
def text(size: int) -> Iterator[str]:
    """Decode each chunk."""
    for chunk in rechunk(orders(), size):
        yield chunk.decode()


@app.get("/replaced", response_class=StreamingResponse)
def replaced(size: int) -> Iterator[str]:
    """Decode each chunk, and hide the error."""
    for chunk in rechunk(orders(), size):
        yield chunk.decode(errors="replace")


# --8<-- [end:wrong]
# --8<-- [start:right]
def decoded(chunks: Iterator[bytes]) -> Iterator[str]:
    """Decode chunks that end anywhere; keep half a character for the next."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    for chunk in chunks:
        yield decoder.decode(chunk)
    yield decoder.decode(b"", final=True)  # Half a character at the end is an error.


@app.get("/whole", response_class=StreamingResponse)
def whole(size: int) -> Iterator[str]:
    """Decode the stream."""
    yield from decoded(rechunk(orders(), size))


# --8<-- [end:right]
