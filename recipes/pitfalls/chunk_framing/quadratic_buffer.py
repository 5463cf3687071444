"""Wrong: with every chunk, all that has come of a line is copied and searched again.

Run it:   uvicorn recipes.pitfalls.chunk_framing.quadratic_buffer:app
Try it:   curl -sS 'http://127.0.0.1:8000/work?chunks=1000'
          curl -sS 'http://127.0.0.1:8000/work?chunks=2000'
See it:   {"bytes":20000,"touched":40020000}
"""

# --8<-- [start:wrong]
from collections.abc import Iterable, Iterator

from fastapi import FastAPI

app = FastAPI()


def read_lines(chunks: Iterable[bytes], empty: bytes = b"") -> Iterator[bytes]:
    """Add each chunk to the buffer, and split the buffer."""
    buffer = empty
    for chunk in chunks:
        buffer += chunk
        *lines, buffer = buffer.split(b"\n")
        yield from lines


# --8<-- [end:wrong]
# --8<-- [start:count]
class Counted(bytes):
    """Bytes that count how many of them are copied or looked at."""

    touched = 0

    def __add__(self, other: object) -> "Counted":
        """Copy both into a new buffer."""
        if not isinstance(other, bytes):
            return NotImplemented
        both = Counted(bytes(self) + bytes(other))
        Counted.touched += len(both)
        return both

    def split(self, *_: object, **__: object) -> list[bytes]:
        """Look at every byte for a line feed."""
        Counted.touched += len(self)
        return [Counted(part) for part in bytes(self).split(b"\n")]


@app.get("/work")
def count(chunks: int) -> dict[str, int]:
    """Read a line that comes in so many chunks of ten bytes, and count the work."""
    Counted.touched = 0
    list(read_lines([b"ten bytes."] * chunks, empty=Counted()))  # There is no line.
    return {"bytes": chunks * 10, "touched": Counted.touched}


# --8<-- [end:count]
