"""Another service's response: passed on by the recipe, by nginx, by Node."""

import socket
import statistics
import sys
import time
from typing import Any

from benchmarks.client import body_of
from benchmarks.harness import Bench, Report, Target, Version, app, started
from tests.kit.nginx import binary

OURS = "The recipe"
NGINX = "nginx, proxy_pass"
UNBUFFERED = "nginx, proxy_buffering off"
ALONE = "The service alone"
LATER = "The first byte is at most 2 ms later (median)"
MEMORY = "At most 16 MB more memory for a slow client"
BY_NGINX = "At least 70 % of the speed of nginx"
BY_UNBUFFERED = "At least as fast as nginx without buffering"
MODULE = "benchmarks.versions.http_proxy"
PATH = "/shop/{n}"
LINE = "x" * 999
NODE = "benchmarks/versions/http_proxy.mjs"
PIECE = 64 * 1024  # bytes that a slow client reads at once


def read(body: bytes) -> list[Any]:
    """Take a body apart into lines."""
    return body.decode().splitlines()


def expected(n: int) -> list[Any]:
    """Say what the lines are."""
    return [LINE] * n


def nginx(name: str, about: str, *more: str) -> Version:
    """Make a version of nginx; `more` is added to its location."""
    module = f"{MODULE}_nginx"
    # Where there is none, this version is left out.
    command = (sys.executable if binary() else "nginx", "-m", module, *more)
    return Version(name, f"python -m {module}", command, PATH, b"\n", about=about)


service = (sys.executable, "-m", f"{MODULE}_service")
alone = Version(
    ALONE,
    f"python -m {MODULE}_service",
    service,
    "/{n}",
    b"\n",
    about="A small server that writes lines of 1,000 bytes and does nothing else. All "
    "the others ask one like it, and pass its lines on.",
)
ours = app(
    OURS,
    f"{MODULE}:recipe_app",
    PATH,
    b"\n",
    "The recipe as it is on this page: it keeps its connections to the service, and "
    "passes the bytes on as they come.",
)
VERSIONS = [
    alone,
    nginx(
        NGINX,
        "The web server nginx, written in C, as a proxy with its usual settings: it "
        "reads ahead of the client.",
    ),
    nginx(
        UNBUFFERED,
        "nginx again, but it sends each piece on at once, as the recipe does.",
        "proxy_buffering off;",
    ),
    ours,
    app(
        "The tutorials' version",
        f"{MODULE}:tutorial_app",
        PATH,
        b"\n",
        "What many tutorials show: a new `httpx2` client for each request. It loses "
        "the service's status and its header fields.",
    ),
    Version(
        "Node http, pipe",
        f"node {NODE}",
        ("node", NODE, sys.executable),
        PATH,
        b"\n",
        about="JavaScript, with the `http` module of Node: its `pipe` passes the "
        "service's body on.",
    ),
]


def added(times: int) -> float:
    """Tell how much later the first byte comes through the recipe, in milliseconds."""
    with started(alone) as service, started(ours) as recipe:
        waits: list[list[float]] = [[], []]
        for running in (service, recipe):
            running.wait_until_it_listens()
            running.ask(1)
        for _ in range(times):
            for running, found in zip((service, recipe), waits, strict=True):
                found.append((running.ask(1).first_byte or 0) * 1000)
    before, after = (statistics.median(found) for found in waits)
    return after - before


def held(lines: int, pieces: int) -> float:
    """Let a client read slowly; tell how much memory that costs the recipe, in MB."""
    with started(ours) as running:
        running.wait_until_it_listens()
        running.ask(1)
        before = running.peak_memory()
        with socket.create_connection(("127.0.0.1", running.port), 10) as connection:
            request = f"GET /shop/{lines} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
            connection.sendall(request.encode())
            for _, _ in zip(range(pieces), body_of(connection), strict=False):
                time.sleep(0.005)
            return (running.peak_memory() - before) / 1e6


def targets(report: Report) -> list[Target]:
    """Say what the recipe promises; measure the first byte and the slow client."""
    times, pieces = (5, 20) if report.quick else (500, 300)
    later = added(times)
    memory = held(report.size, pieces)
    found = [
        Target(LATER, 2, later, "ms", at_most=True),
        Target(MEMORY, 16, memory, "MB", at_most=True),
    ]
    if NGINX not in report.left_out:
        unbuffered = report.ratio(UNBUFFERED) * 100
        found += [
            Target(BY_NGINX, 70, report.ratio(NGINX) * 100, "%"),
            Target(BY_UNBUFFERED, 100, unbuffered, "%"),
        ]
    return found


BENCH = Bench(
    slug="http_proxy",
    unit="lines",
    versions=VERSIONS,
    ours=OURS,
    read=read,
    expected=expected,
    size=100_000,
    warm_up=2000,
    targets=targets,
    why={
        BY_NGINX: "httpx2 reads at most 64 KiB at a time, and has no public setting "
        "for it. Most of the recipe's time goes into these reads and into sending each "
        "of them on from Python."
    },
)
