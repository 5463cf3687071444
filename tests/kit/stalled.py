"""Count what is made for a client that holds three chunks and reads no more.

python -m tests.kit.stalled     writes docs/learn/backpressure.txt and two pictures
"""

import asyncio
from contextlib import suppress
from html import escape

from starlette.types import Message

from cookbook.catalog import ROOT
from docs.learn import backpressure
from tests.kit import docs

TABLE = ROOT / "docs/learn/backpressure.txt"
CHART = ROOT / "docs/learn/backpressure_chart.svg"
BUFFERS = ROOT / "docs/learn/backpressure_buffers.svg"
HELD = 3  # chunks that the client takes
TURNS = 50  # of the event loop, from the request on
SHOWN = 30  # of them, in the chart
LATER = (10, 20, 30)  # turns after the client has taken its third chunk
WAYS = {
    "direct": "no queue",
    "bounded": f"a queue with room for {backpressure.ROOM}",
    "unbounded": "a queue without a limit",
}
Seen = list[tuple[int, int]]  # in each turn: chunks that the client holds, orders made


async def stalled(way: str) -> Seen:
    """Ask, take three chunks, and look at every turn of the event loop."""
    backpressure.made.clear()
    held, seen = 0, Seen()

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        nonlocal held
        if not message.get("body"):
            return
        if held == HELD:
            await asyncio.Event().wait()
        held += 1

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "method": "GET",
        "path": f"/{way}",
        "query_string": b"",
        "headers": [],
    }
    task = asyncio.ensure_future(backpressure.app(scope, receive, send))
    for _ in range(TURNS):
        seen.append((held, backpressure.made[way]))
        await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return seen


def counted() -> dict[str, Seen]:
    """Count for all three ways."""
    return {way: asyncio.run(stalled(way)) for way in WAYS}


def table(found: dict[str, Seen]) -> str:
    """Say how many orders are made when the client has stopped, and some turns on."""
    rows = []
    for way, seen in found.items():
        begin = next(turn for turn, (held, _) in enumerate(seen) if held == HELD)
        later = [seen[begin + turns][1] for turns in LATER]
        rows.append([f"`/{way}`: {WAYS[way]}", *map(str, later)])
    head = ["orders made …", *(f"{turns} turns on" for turns in LATER)]
    return docs.table(head, rows)


# The pictures; their colours are the theme's, in light and in dark.

INK = "var(--md-default-fg-color)"
FAINT = "var(--md-default-fg-color--lighter)"
COLOURS = {
    "direct": "var(--md-typeset-a-color)",
    "bounded": INK,
    "unbounded": "var(--md-accent-fg-color)",
}
WIDTH = 400  # as wide as a phone shows it, so that the words can be read there


def picture(height: int, title: str, parts: list[str]) -> str:
    """Put parts into a picture with a title, to be included in a page."""
    opening = f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img">'
    figure = [opening, f"<title>{escape(title)}</title>", *parts, "</svg>"]
    return "\n".join(['<figure class="diagram">', *figure, "</figure>", ""])


def text(x: float, y: float, words: str, *, colour: str = INK, more: str = "") -> str:
    """Write words."""
    return f'<text x="{x:g}" y="{y:g}" style="fill:{colour}"{more}>{words}</text>'


def line(points: list[tuple[float, float]], colour: str, more: str = "") -> str:
    """Draw a line."""
    path = " ".join(f"{x:g},{y:g}" for x, y in points)
    style = f"fill:none;stroke:{colour};stroke-width:2{more}"
    return f'<polyline points="{path}" style="{style}"/>'


def chart(found: dict[str, Seen]) -> str:
    """Draw the orders made over the turns of the event loop."""
    found = {way: seen[:SHOWN] for way, seen in found.items()}
    most = max(made for seen in found.values() for _, made in seen)
    left, bottom, wide, high = 34, 220, WIDTH - 44, 180

    def at(turn: int, made: float) -> tuple[float, float]:
        x = left + wide * turn / (SHOWN - 1)
        return round(x, 1), round(bottom - high * made / most, 1)

    parts = [
        line([(left, 30), (left, bottom), (left + wide, bottom)], FAINT),
        text(4, 18, "orders made"),
        text(left + wide, bottom + 32, "turns since the request", more=END),
    ]
    for made in (5, 10, 15, 20, 25):
        if made <= most:
            x, y = at(0, made)
            parts.append(text(x - 6, y + 4, str(made), more=END))
            parts.append(line([(x, y), (left + wide, y)], FAINT, ";stroke-width:0.5"))
    parts += [
        text(at(turn, 0)[0], bottom + 16, str(turn), more=MIDDLE)
        for turn in range(0, SHOWN, 10)
    ]
    for way, seen in found.items():
        path = [at(turn, count) for turn, (_, count) in enumerate(seen)]
        parts.append(line(path, COLOURS[way]))
    labels = {"unbounded": (-70.0, 12.0), "bounded": (0.0, -8.0), "direct": (0.0, 17.0)}
    for way, (across, down) in labels.items():
        x, y = at(SHOWN - 1, found[way][-1][1])
        words = WAYS[way]
        parts.append(text(x + across, y + down, words, colour=COLOURS[way], more=END))
    ends = ", ".join(f"{WAYS[way]}: {seen[-1][1]}" for way, seen in found.items())
    title = f"Orders made for a client that has read three and reads no more. {ends}."
    return picture(bottom + 44, title, parts)


END, MIDDLE = ' text-anchor="end"', ' text-anchor="middle"'
STATIONS = [
    ("your generator", "makes an order", False),
    ("a queue of yours", "as long as you let it be", True),
    ("uvicorn", "64 KiB, then send waits", True),
    ("the server's system: send buffer", "up to 4 MB", True),
    ("nginx, if there is one", "memory, and up to 1 GB of disk", True),
    ("the client's system: receive buffer", "up to 6 MB", True),
    ("the client's program", "reads, or does not", False),
]


def buffers() -> str:
    """Draw where an order can wait, from top to bottom."""
    parts = []
    for number, (name, size, is_buffer) in enumerate(STATIONS):
        y = 4 + number * 56
        dash = "" if is_buffer else ";stroke-dasharray:4 3"
        parts.append(
            f'<rect x="20" y="{y}" width="{WIDTH - 40}" height="42" rx="4" '
            f'style="fill:none;stroke:{INK};stroke-width:1.2{dash}"/>'
        )
        parts.append(text(WIDTH / 2, y + 18, name, more=MIDDLE))
        soft = "var(--md-default-fg-color--light)"
        parts.append(text(WIDTH / 2, y + 34, size, colour=soft, more=MIDDLE))
        if number:
            x = WIDTH / 2
            parts.append(line([(x, y - 14), (x, y - 1)], INK))
            parts.append(line([(x - 4, y - 6), (x, y - 1), (x + 4, y - 6)], INK))
    names = "; ".join(f"{name}: {size}" for name, size, _ in STATIONS)
    return picture(len(STATIONS) * 56, f"Where an order can wait. {names}.", parts)


def files() -> dict[str, str]:
    """Give what is written, by the name of the file."""
    found = counted()
    return {
        TABLE.name: table(found),
        CHART.name: chart(found),
        BUFFERS.name: buffers(),
    }


if __name__ == "__main__":
    for name, content in files().items():
        (ROOT / "docs/learn" / name).write_text(content, "utf-8")
