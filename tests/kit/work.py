"""Count the work of code that reads bytes, the same on every machine and in every run.

Two things are added up: the lines of Python that run, and the bytes that the methods
and operators of `bytes` and `bytearray` look at or copy on the way. The second is what
makes a buffer quadratic, and no count of lines shows it.

Left out is what a `bytearray` does in order to grow, or to lose its beginning: CPython
makes room for an eighth more than it needs, and moves the start of the array. Both cost
the same for every byte, on average.

    with counting(recipe) as work:
        feed(recipe, [Seen(b"abc")])
    assert work.total < 1000
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, SupportsIndex, overload

import pytest
from typing_extensions import Buffer

if TYPE_CHECKING:
    from _typeshed import TraceFunction


class Work:
    """What has been counted so far."""

    def __init__(self) -> None:
        self.lines = 0  # of Python
        self.touched = 0  # bytes

    @property
    def total(self) -> int:
        """All steps together."""
        return self.lines + self.touched


_work = Work()


class Seen(bytes):
    """Bytes that count what is read of them, as are their parts and their sums."""

    def split(  # type: ignore[override]  # its parts are counted too
        self, separator: bytes | None = None, most: SupportsIndex = -1
    ) -> "list[Seen]":
        """Look at every byte."""
        _work.touched += len(self)
        return [Seen(part) for part in super().split(separator, most)]

    def __add__(self, other: Buffer) -> "Seen":
        _work.touched += len(self) + len(memoryview(other))
        return Seen(super().__add__(other))

    def __radd__(self, other: bytes) -> "Seen":
        _work.touched += len(self) + len(other)
        return Seen(bytes.__add__(other, self))

    @overload
    def __getitem__(self, key: SupportsIndex) -> int: ...
    @overload
    def __getitem__(self, key: slice) -> "Seen": ...
    def __getitem__(self, key: SupportsIndex | slice) -> "int | Seen":
        if not isinstance(key, slice):
            return super().__getitem__(key)
        part = super().__getitem__(key)
        _work.touched += len(part)
        return Seen(part)


class SeenArray(bytearray):
    """An array that counts what is added to it and read of it."""

    def __iadd__(self, other: Buffer) -> "SeenArray":  # type: ignore[override]
        _work.touched += len(memoryview(other))
        super().__iadd__(other)
        return self

    @overload
    def __getitem__(self, key: SupportsIndex) -> int: ...
    @overload
    def __getitem__(self, key: slice) -> bytearray: ...
    def __getitem__(self, key: SupportsIndex | slice) -> int | bytearray:
        if not isinstance(key, slice):
            return super().__getitem__(key)
        part = super().__getitem__(key)
        _work.touched += len(part)
        return part

    def __bytes__(self) -> bytes:
        _work.touched += len(self)
        return bytes(memoryview(self))


@contextmanager
def counting(module: ModuleType) -> Iterator[Work]:
    """Count the lines that run in `module`, and what its arrays do."""
    global _work
    _work = Work()
    file = module.__file__

    def trace(frame: FrameType, event: str, _: object) -> "TraceFunction | None":
        if frame.f_code.co_filename != file:
            return None
        if event == "line":
            _work.lines += 1
        return trace

    before = sys.gettrace()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "bytearray", SeenArray, raising=False)
        sys.settrace(trace)
        try:
            yield _work
        finally:
            sys.settrace(before)
