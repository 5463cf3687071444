"""Let several runs of pytest do a thing one after the other."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def turn(file: Path) -> Iterator[None]:
    """Wait until no other process holds `file`, and hold it; it is made if need be."""
    import fcntl  # Windows has none, and no tests that need this.

    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
