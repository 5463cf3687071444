"""Write down what runs, and in which order, when the client of a stream leaves.

python -m tests.kit.cancelled     writes docs/learn/cancellation.txt
"""

import threading
import time
from contextlib import ExitStack
from typing import NamedTuple
from unittest import mock

from starlette.types import Message, Receive, Scope, Send

from cookbook.catalog import ROOT
from docs.learn import cancellation
from tests.kit.asgi import WAIT, Run, drive, note

TEXT = ROOT / "docs/learn/cancellation.txt"
# The driver's words, in those of the page.
WORDS = {
    "stall 3": "(the client does not read order 3)",
    "disconnect": "(the client leaves)",
    "returned": "(the response has ended)",
    "raised ExceptionGroup": "(the response has ended, with an error in the log)",
}


class Case(NamedTuple):
    """A client that leaves: the path, and whether it had stopped reading."""

    path: str
    slow: bool = False


CASES = {
    "await": Case("/by-hand"),
    "yield": Case("/by-hand", slow=True),
    "native": Case("/native"),
    "native-slow": Case("/native", slow=True),
    "closed": Case("/closed"),
    "closed-slow": Case("/closed", slow=True),
    "thread": Case("/thread"),
    "unshielded": Case("/unshielded"),
    "shielded": Case("/shielded"),
}


class Sleeper:
    """A thread that sleeps until the client has left, and tells that it sleeps."""

    def __init__(self) -> None:
        self.asleep, self.left = threading.Event(), threading.Event()

    def sleep(self, _: float, /) -> None:
        """Take the place of `time.sleep`."""
        self.asleep.set()
        assert self.left.wait(WAIT)

    def wait(self) -> None:
        """Wait until it sleeps."""
        assert self.asleep.wait(WAIT)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application hear that its client has left, and wake the thread."""

        async def heard() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left.set()
            return message

        await cancellation.app(scope, heard, send)


def journal(case: Case) -> Run:
    """Ask as the case says, and leave when two orders were read."""
    sleeper = Sleeper()
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(cancellation, "say", note))
        clock = mock.patch.object(time, "sleep", sleeper.sleep)
        stack.enter_context(clock)
        if case.path == "/thread":
            return drive(sleeper.app, case.path, leave_after=sleeper.wait)
        if case.slow:
            # Without a pause it is found at its `yield`, and not at its `await`.
            stack.enter_context(mock.patch.object(cancellation, "PAUSE", 0))
            return drive(cancellation.app, case.path, stall_at=3, disconnect_at=3)
        return drive(cancellation.app, case.path, disconnect_at=2)


def lines(case: Case) -> list[str]:
    """Give the journal in the words of the page, without the messages' own lines."""
    run = journal(case)
    return [
        WORDS.get(line, line)
        for line in run.journal
        if not line.startswith(("start", "chunk", "end"))
    ]


def text() -> str:
    """Write the journals of all cases, a section each."""
    return "".join(
        f"--8<-- [start:{name}]\n" + "\n".join(lines(case)) + f"\n--8<-- [end:{name}]\n"
        for name, case in CASES.items()
    )


if __name__ == "__main__":
    TEXT.write_text(text(), "utf-8")
