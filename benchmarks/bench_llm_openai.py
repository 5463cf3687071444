"""Tokens of a language model: what it costs to pass one on, and how soon it stops."""

import os
import re
import socket
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.client import body_of
from benchmarks.harness import Bench, Report, Target, Version, app, started

OURS = "The recipe"
ALONE = "The provider alone"
MODULE = "benchmarks.versions.llm_openai"
ASK = "/answer?prompt=x&tokens={n}"
PROVIDER_PATH = "/v1/chat/completions?tokens={n}"
NODE = "benchmarks/versions/llm_openai.mjs"
PACE = 20  # milliseconds between two tokens: 50 a second


def read(body: bytes) -> list[Any]:
    """Take a body apart into its tokens, however they are written."""
    text = body.decode()
    if "event: token" in text or '"choices"' in text:
        return re.findall(r'"(?:text|content)": ?"(t[^"]*)"', text)
    return re.findall(r"data: (t.*)", text)


def expected(n: int) -> list[Any]:
    """Say what the tokens are."""
    return [f"t{number}" for number in range(n)]


ours = app(OURS, f"{MODULE}:recipe_app", ASK, b"event: token\n")
VERSIONS = [
    app(ALONE, "benchmarks.versions.llm_provider:app", PROVIDER_PATH, b'"content": "t'),
    ours,
    app("The tutorials' version", f"{MODULE}:tutorial_app", ASK, b"data: t"),
    Version(
        "Node http and fetch",
        f"node {NODE}",
        ("node", NODE, sys.executable),
        ASK,
        b"event: token\n",
        runs=("uvicorn", "benchmarks.versions.llm_provider"),
    ),
]


@contextmanager
def asked(port: int, path: str) -> Iterator[tuple[socket.socket, Iterator[bytes]]]:
    """Ask for a stream; give the connection and the body as it comes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        connection.sendall(request.encode())
        yield connection, body_of(connection)


def delays(port: int, path: str) -> list[float]:
    """Tell for each token how long it was on its way, in milliseconds."""
    found = []
    with asked(port, path) as (_, body):
        for piece in body:
            now = time.monotonic_ns()
            found += [(now - int(t)) / 1e6 for t in re.findall(rb'"t(\d+)"', piece)]
    return found


def until_closed(port: int, provider: int) -> float:
    """Leave in mid-answer; tell after how many milliseconds the provider knew."""
    with asked(port, ASK.format(n=10_000)) as (_, body):
        while b"event: token" not in next(body):
            pass
        left = time.monotonic_ns()
    while True:
        with asked(provider, "/closed") as (_, body):
            at = int(b"".join(body))
        if at > left:
            return (at - left) / 1e6
        time.sleep(0.005)


def targets(report: Report) -> list[Target]:
    """Work out what a token costs; measure how long it takes, and how long a stop."""
    tokens, stops = (20, 3) if report.quick else (500, 100)
    alone, recipe = report[ALONE], report[OURS]
    added = (recipe.seconds - alone.seconds) / report.size * 1e6
    chats = 1 / (recipe.cpu_seconds / report.size * 1000 / PACE)
    # The recipe finds a provider with a pace, and the port of that is in its output.
    os.environ["PACE"] = f"/{PACE}"
    try:
        with started(ours) as running:
            running.wait_until_it_listens()
            provider = int(re.findall(r"provider on port (\d+)", running.said())[0])
            path = f"/{PACE}{PROVIDER_PATH.format(n=tokens)}"
            before = delays(provider, path)
            after = delays(running.port, ASK.format(n=tokens))
            stop = statistics.median(
                until_closed(running.port, provider) for _ in range(stops)
            )
    finally:
        del os.environ["PACE"]
    later = [statistics.quantiles(times, n=100) for times in (before, after)]
    p50, p99 = (later[1][at] - later[0][at] for at in (49, 98))
    return [
        Target("At full speed at most 1 ms more a token", 1000, added, "µs", True),
        Target("A token is at most 5 ms later (median)", 5, p50, "ms", True),
        Target("A token is at most 20 ms later (99th percentile)", 20, p99, "ms", True),
        Target("At least 25 chats a core at 50 tokens/s", 25, chats, "chats"),
        Target("Hangs up at most 100 ms after the client", 100, stop, "ms", True),
    ]


BENCH = Bench(
    slug="llm_openai",
    unit="tokens",
    versions=VERSIONS,
    ours=OURS,
    read=read,
    expected=expected,
    size=20_000,
    warm_up=200,
    quick_size=200,
    targets=targets,
)
