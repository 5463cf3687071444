"""Measure the coverage of code in threads and greenlets, without a hang of Python 3.11.

Coverage notes for each greenlet where its code stands, under a weak reference. That of
a thread's first greenlet dies with the thread. Then greenlet runs the reference's
callback inside a "pending call" of Python's main thread. If another thread ends at that
moment, Python 3.11 enters this traced function again and again, and never gets on.

So the first greenlet of each thread gets a key that outlives it. One key is enough for
all threads, because each has notes of its own.
"""

from collections.abc import Hashable
from typing import Any

import coverage


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
