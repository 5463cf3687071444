"""Measure the coverage of code in threads and greenlets, without a hang of Python 3.11.

Coverage notes for each greenlet where its code stands, under a weak reference. That of
a thread's first greenlet dies with the thread. Then greenlet runs the reference's
callback inside a "pending call" of Python's main thread. If another thread ends at that
moment, Python 3.11 enters this traced function again and again, and never gets on.

So the first greenlet of each thread gets a key that outlives it. One key is enough for
all threads, because each has notes of its own.
"""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import coverage

# The tests that reach every line of the recipes. What is measured takes 1.6 times as
# long, so the others are not.
NEEDED = (
    "tests/recipes",
    "tests/pitfalls",
    "tests/test_scripts.py",
    "tests/servers/test_sse_broadcast.py",  # with a real Redis
    "tests/servers/test_sse_resumable.py",
)
_measuring = coverage.Coverage.current()  # before it is stopped for the first time


def measure(file: Path) -> None:
    """Measure the tests of a file, or stop until another is needed.

    `file` is relative to the root of the repository.
    """
    if _measuring is None:
        return
    running = coverage.Coverage.current() is not None
    needed = file.as_posix().startswith(NEEDED)
    if needed and not running:
        _measuring.start()
    elif running and not needed:
        _measuring.stop()


class First:
    """Stands for the greenlet in which a thread began."""


def install() -> None:
    """Measure all threads that are started from now on in this way."""
    measuring = coverage.Coverage.current()
    collector: Any = measuring and measuring._collector
    if collector is None:
        return
    running = collector.concur_id_func
    first = First()

    def key() -> Hashable:
        greenlet = running()
        return first if greenlet.parent is None else greenlet

    collector.concur_id_func = key
