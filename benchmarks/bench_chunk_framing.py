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
MODULE = "benchmarks.versions.chunk_framing"


def reader(name: str, argument: str) -> Version:
    """One of the readers in Python."""
    command = (sys.executable, "-m", MODULE, argument)
    return Version(name, f"python -m {MODULE} {argument}", command, None)


def targets(report: Report) -> list[Target]:
    """Say what the recipe promises."""
    naive, limit = report[NAIVE].ratio, report[LIMIT].ratio
    share = 1 / report[CHECKED].ratio
    return [
        Target("times as fast as a line at a time", 3, naive, naive >= 3),
        Target("of the speed of the one in C", 0.1, limit, limit >= 0.1),
        Target("of the time to check and answer, at most", 0.2, share, share <= 0.2),
    ]


SCRIPT = "benchmarks/versions/chunk_framing.mjs"
BENCH = Bench(
    slug="chunk_framing",
    unit="lines",
    versions=[
        reader(NAIVE, "line_by_line"),
        reader(OURS, "recipe"),
        reader(HTTPX, "httpx2"),
        reader(LIMIT, "io"),
        Version("Node, Buffer.indexOf", f"node {SCRIPT}", ("node", SCRIPT), None),
        reader(CHECKED, "answered"),
    ],
    ours=OURS,
    read=lambda _: [],
    expected=lambda _: [],
    size=400_000,
    targets=targets,
)
