"""Lines out of chunks of 256 KiB: the recipe, the loop that one meets, and C.

No version has a server: what is measured is the splitting, which a server's work would
hide. One version shows what comes on top: to check each line and to answer it.
"""

import sys

from benchmarks.harness import Bench, Report, Target, Version

OURS = "The recipe: LineReader"
CHECKED = "The recipe, each line checked and answered"
NAIVE = "A line at a time off the buffer"
HTTPX = "httpx2, iter_lines (text, more line ends)"
LIMIT = "io.BufferedReader, written in C"
BY_NAIVE = "At least 3 times as fast as a line at a time"
BY_LIMIT = "At least 10 % of the speed of the one in C"
BY_CHECKED = "At most 20 % of the time to check and answer"
MODULE = "benchmarks.versions.chunk_framing"


def reader(name: str, argument: str, about: str) -> Version:
    """One of the readers in Python."""
    command = (sys.executable, "-m", MODULE, argument)
    shown = f"python -m {MODULE} {argument}"
    return Version(name, shown, command, None, runs=(MODULE,), about=about)


def targets(report: Report) -> list[Target]:
    """Say what the recipe promises."""
    share = 100 / report.ratio(CHECKED)
    return [
        Target(BY_NAIVE, 3, report.ratio(NAIVE), "times"),
        Target(BY_LIMIT, 10, report.ratio(LIMIT) * 100, "%"),
        Target(BY_CHECKED, 20, share, "%", at_most=True),
    ]


SCRIPT = "benchmarks/versions/chunk_framing.mjs"
BENCH = Bench(
    slug="chunk_framing",
    unit="lines",
    versions=[
        reader(
            NAIVE,
            "line_by_line",
            "What many examples show: it cuts one line off the buffer, and copies the "
            "rest of the buffer for each line.",
        ),
        reader(
            OURS,
            "recipe",
            "The recipe's class as it is on this page. It splits each chunk once, "
            "numbers each line, and cuts off a line that is too long.",
        ),
        reader(
            HTTPX,
            "httpx2",
            "The lines of a response of the `httpx2` library. They are text, not "
            "bytes, they end at more characters than a line feed, and none is too "
            "long for it.",
        ),
        reader(
            LIMIT,
            "io",
            "Python's own buffered file reads the lines. It does no more than to find "
            "the line feeds, and a loop in Python can hardly be as fast.",
        ),
        Version(
            "Node, Buffer.indexOf",
            f"node {SCRIPT}",
            ("node", SCRIPT),
            None,
            about="The same chunks in JavaScript: one search for each line feed, and "
            "no copy of a line that lies within a chunk.",
        ),
        reader(
            CHECKED,
            "answered",
            "The recipe's class again, and then each line is checked as an order and "
            "answered. It shows how small the share of the splitting is.",
        ),
    ],
    ours=OURS,
    read=lambda _: [],
    expected=lambda _: [],
    size=400_000,
    targets=targets,
)
