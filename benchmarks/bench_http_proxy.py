"""Another service's response: passed on by the recipe, by nginx, by Node."""

import socket
import statistics
import sys
import time
from typing import Any

from benchmarks.harness import Bench, Report, Target, Version, app, body_of, started

OURS = "The recipe"
NGINX = "nginx, proxy_pass"
UNBUFFERED = "nginx, proxy_buffering off"
ALONE = "The service alone"
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


def nginx(name: str, *more: str) -> Version:
    """Make a version of nginx; `more` is added to its location."""
    module = f"{MODULE}_nginx"
    command = (sys.executable, "-m", module, *more)
    return Version(name, f"python -m {module}", command, PATH, b"\n")


service = (sys.executable, "-m", f"{MODULE}_service")
alone = Version(ALONE, f"python -m {MODULE}_service", service, "/{n}", b"\n")
ours = app(OURS, f"{MODULE}:recipe_app", PATH, b"\n")
VERSIONS = [
    alone,
    nginx(NGINX),
    nginx(UNBUFFERED, "proxy_buffering off;"),
    ours,
    app("The tutorials' version", f"{MODULE}:tutorial_app", PATH, b"\n"),
    Version(
        "Node http, pipe",
        f"node {NODE}",
        ("node", NODE, sys.executable),
        PATH,
        b"\n",
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
        Target("ms later is the first byte, median, at most", 2, later, later <= 2),
        Target("MB more memory for a slow client, at most", 16, memory, memory < 16),
    ]
    names = {result.name for result in report.results}
    if NGINX in names:
        ratio = report[NGINX].ratio
        found.append(Target("of nginx's speed, at least", 0.7, ratio, ratio >= 0.7))
        ratio = report[UNBUFFERED].ratio
        promise = "times as fast as nginx without buffering"
        found.append(Target(promise, 1, ratio, ratio > 1))
    return found


BENCH = Bench(
    slug="http_proxy",
    unit="kilobytes",
    versions=VERSIONS,
    ours=OURS,
    read=read,
    expected=expected,
    size=100_000,
    warm_up=2000,
    targets=targets,
)
