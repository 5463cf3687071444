"""The record: what became of each request to the scripted provider."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

WAIT = 15.0  # seconds, the limit of every wait
NAME = 40  # characters of a model's name that the table shows


@dataclass
class Request:
    """What became of a request.

    `hung_up_after` counts the tokens made until the client left. It is None
    if the client stayed to the end of the script, be that an answer or a fault, and
    `finished` is true then. `ended` says in words how it ended; it is None as long as
    it goes on. That a key came is noted, the key is not.
    """

    id: int
    path: str
    scenario: str
    model: str
    stream: bool
    has_key: bool
    tokens_made: int = 0
    hung_up_after: int | None = None
    finished: bool = False
    ended: str | None = None

    def over(self) -> bool:
        """Say whether nothing more will come."""
        return self.finished or self.hung_up_after is not None


class Record:
    """The requests since the last `clear`; any thread may call its methods."""

    def __init__(self) -> None:
        self._requests: list[Request] = []
        self._changed = threading.Condition()  # guards the list and what is in it

    def add(
        self, path: str, scenario: str, model: str, *, stream: bool, has_key: bool
    ) -> Request:
        """Write a request down, under the next number."""
        with self._changed:
            number = len(self._requests) + 1
            request = Request(number, path, scenario, model, stream, has_key)
            self._requests.append(request)
            self._changed.notify_all()
            return request

    def turn(self, request: Request) -> int:
        """Count the requests before this one that got the same scenario."""
        turn = 0
        with self._changed:
            for other in self._requests[: request.id - 1]:
                if other.scenario == request.scenario:
                    turn += 1
        return turn

    def note(self, request: Request, **fields: int | bool | str) -> None:
        """Write down what has become of a request, and wake those who wait for it."""
        with self._changed:
            for name, value in fields.items():
                setattr(request, name, value)
            self._changed.notify_all()

    def requests(self) -> list[Request]:
        """Give the requests as they stand, in the order of their ids from 1."""
        with self._changed:
            return [replace(request) for request in self._requests]

    def clear(self) -> None:
        """Forget the requests; ids start at 1 again."""
        with self._changed:
            self._requests.clear()

    def wait(self, number: int, until: Callable[[Request], bool]) -> Request:
        """Wait until something is true of a request, and give it.

        Raises:
            TimeoutError: this did not come true within five seconds.
        """

        def come() -> bool:
            if number > len(self._requests):
                return False
            return until(self._requests[number - 1])

        with self._changed:
            if self._changed.wait_for(come, WAIT):
                return replace(self._requests[number - 1])
            raise TimeoutError(
                f"waited {WAIT:g} s for request {number} to be {until.__name__},"
                f" and these came: {self._requests}"
            )


def table(requests: Sequence[Request]) -> str:
    """Write the record for people, a line a request."""
    head = ["request", "ended", "tokens", "model", "scenario", "stream", "path"]
    rows = [head, *map(row, requests)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    text = ""
    for cells in rows:
        padded = map(str.ljust, cells, widths)
        text += "  ".join(padded).rstrip() + "\n"
    return text


def row(request: Request) -> list[str]:
    """Give the cells of one request."""
    return [
        str(request.id),
        request.ended or "still open",
        str(request.tokens_made),
        in_a_row(request.model),
        request.scenario,
        "yes" if request.stream else "no",
        request.path,
    ]


def in_a_row(text: str) -> str:
    """Make a text of a client's fit into a row; it may hold anything."""
    signs = (sign if sign.isprintable() else "�" for sign in text[:NAME])
    return "".join(signs)
