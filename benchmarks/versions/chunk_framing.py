"""Split the same chunks into lines, by the ways that one meets.

`python -m benchmarks.versions.chunk_framing NAME`: each number of lines that comes in
on a line goes out as a line of JSON. The chunks are made before the clock starts.
"""

import io
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator

import httpx2

from recipes.chunk_framing import LineReader, answers, orders, rechunk

CHUNK = 256 * 1024  # bytes, what uvicorn hands over while an upload is fast
Reader = Callable[[list[bytes]], Iterable[object]]


def by_the_recipe(chunks: list[bytes]) -> Iterator[object]:
    """Read lines as the recipe does."""
    reader = LineReader()
    for chunk in chunks:
        yield from reader.feed(chunk)


def answered(chunks: list[bytes]) -> Iterator[object]:
    """Read, check and answer lines as the recipe does."""
    reader = LineReader()
    for chunk in chunks:
        yield from answers(reader.feed(chunk))


def line_by_line(chunks: list[bytes]) -> Iterator[object]:
    """Cut one line off the buffer at a time, and keep a copy of the rest."""
    buffer = b""
    for chunk in chunks:
        buffer += chunk
        while b"\n" in buffer:
            line, buffer = buffer.split(b"\n", 1)
            yield line


def by_httpx2(chunks: list[bytes]) -> Iterator[object]:
    """Read lines of text with a response of httpx2."""
    return httpx2.Response(200, content=iter(chunks)).iter_lines()


class Raw(io.RawIOBase):
    """A source of chunks for `io.BufferedReader`."""

    def __init__(self, chunks: list[bytes]) -> None:
        self.chunks = iter(chunks)

    def readable(self) -> bool:
        """Say that one can read it."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Give the next chunk, which fits."""
        chunk = next(self.chunks, b"")
        buffer[: len(chunk)] = chunk
        return len(chunk)


def by_the_io_module(chunks: list[bytes]) -> Iterator[object]:
    """Read lines with a buffered file, written in C."""
    return io.BufferedReader(Raw(chunks), CHUNK)


READERS: dict[str, Reader] = {
    "recipe": by_the_recipe,
    "answered": answered,
    "line_by_line": line_by_line,
    "httpx2": by_httpx2,
    "io": by_the_io_module,
}


def main() -> None:
    """Measure one reader, again and again."""
    read = READERS[sys.argv[1]]
    for line in sys.stdin:
        n = int(line)
        few = list(orders())
        body = b"".join(few) * (n // len(few))
        chunks = list(rechunk([body], CHUNK))
        began = time.perf_counter()
        lines = 0
        for _ in read(chunks):
            lines += 1
        seconds = time.perf_counter() - began
        print(json.dumps({"seconds": seconds, "units": lines}), flush=True)


if __name__ == "__main__":
    main()
