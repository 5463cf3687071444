"""Tokens of a language model: what each layer costs, and how much later it sends."""

import re
import statistics
import sys
import threading
import time
from dataclasses import dataclass
from functools import cache
from typing import Any

from benchmarks.bench_llm_openai import asked
from benchmarks.client import fetch
from benchmarks.harness import Bench, Report, Table, Target, Version, app, started

SDK = "SDK and native SSE (`llm_openai`)"
EVENTS = "httpx2's events, re-framed"
BYTES = "httpx2, passed through"
PAGE = "Re-framed (`llm_gateway_page.py`)"
OURS = "The recipe"
NODE_EVENTS = "Node, re-framed"
NODE_PIPE = "Node, passed through"
MODULE = "benchmarks.versions.llm_gateway"
NODE = "benchmarks/versions/llm_gateway.mjs"
PACE = 20  # milliseconds between two tokens: 50 a second
TOKEN = b"event: token\n"
CHUNK = b'"content": "t'


def read(body: bytes) -> list[Any]:
    """Take a body apart into its tokens, however they are written."""
    return re.findall(r'"(?:text|content)": ?"(t[^"]*)"', body.decode())


def expected(n: int) -> list[Any]:
    """Say what the tokens are."""
    return [f"t{number}" for number in range(n)]


def node(name: str, path: str, end: bytes, about: str) -> Version:
    """Make a version of Node."""
    runs = (MODULE,)
    command = ("node", NODE, sys.executable)
    return Version(name, f"node {NODE}", command, path, end, runs, about)


VERSIONS = [
    app(
        SDK,
        f"{MODULE}:sdk_app",
        "/answer?prompt=x&tokens={n}",
        TOKEN,
        "The recipe `llm_openai`: an object of the SDK's for each chunk, an object of "
        "Pydantic's for each event, FastAPI's own events.",
    ),
    app(
        EVENTS,
        f"{MODULE}:httpx2_versions",
        "/events?tokens={n}",
        TOKEN,
        "The events that httpx2 reads, `orjson`, and events written by hand, one for "
        "each token.",
    ),
    app(
        PAGE,
        f"{MODULE}:page_app",
        "/answer?prompt=x&tokens={n}",
        TOKEN,
        "Lines of what aiohttp has read, `orjson`, and as many events at a time as "
        "tokens have come at once.",
    ),
    app(
        BYTES,
        f"{MODULE}:httpx2_versions",
        "/bytes?tokens={n}",
        CHUNK,
        "`aiter_raw` of httpx2 in a `StreamingResponse`. It counts and checks nothing.",
    ),
    app(
        OURS,
        f"{MODULE}:gateway_app",
        "/v1/chat/completions?tokens={n}",
        CHUNK,
        "The recipe as it is on this page: bytes of aiohttp, with all that it counts "
        "and checks.",
    ),
    node(
        NODE_EVENTS,
        "/events?tokens={n}",
        TOKEN,
        "JavaScript: `fetch`, `JSON.parse`, and one write for each event.",
    ),
    node(
        NODE_PIPE,
        "/pipe?tokens={n}",
        CHUNK,
        "JavaScript: the `http` module, and its `pipe`. It counts and checks nothing.",
    ),
]


REPORTS: list[Report] = []


@dataclass(frozen=True)
class Paced:
    """What a version does with tokens that come one by one."""

    added: float  # milliseconds that a token is later than from the provider, median
    cost: float  # seconds of a core for each token of many chats


def delays(port: int, path: str) -> list[float]:
    """Tell for each token how long it was on its way, in milliseconds."""
    found = []
    with asked(port, path) as (_, body):
        for piece in body:
            now = time.monotonic_ns()
            found += [(now - int(t)) / 1e6 for t in re.findall(rb'"t(\d+)"', piece)]
    return found


@cache
def paced(version: Version, tokens: int, chats: int, busy: int) -> Paced:
    """Measure tokens at 50 a second: one chat, then many at the same time."""
    with started(version) as running:
        running.wait_until_it_listens()
        provider = int(re.findall(r"provider on port (\d+)", running.said())[0])
        path = (version.path or "").format(n=f"{PACE}/{tokens}")
        before = delays(provider, f"/?tokens={PACE}/{tokens}")
        after = delays(running.port, path)
        many = (version.path or "").format(n=f"{PACE}/{busy}")
        spent = running.cpu_seconds()
        arguments = (running.port, many, version.end)
        threads = [threading.Thread(target=fetch, args=arguments) for _ in range(chats)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        spent = running.cpu_seconds() - spent
    added = statistics.median(after) - statistics.median(before)
    return Paced(added, max(spent, 0.01) / chats / busy)


def sizes(quick: bool) -> tuple[int, int, int]:
    """Say how many tokens one chat has, how many chats there are, and their tokens."""
    return (20, 2, 20) if quick else (500, 40, 500)


def version(name: str) -> Version:
    """Find a version."""
    return next(version for version in VERSIONS if version.name == name)


def on_a_core(report: Report, name: str) -> float:
    """Give the tokens a second and core of a version."""
    return report.size / max(report[name].cpu_seconds, 0.01)


def targets(report: Report) -> list[Target]:
    """Compare what a core does; all of it is time of the version's own process."""
    REPORTS.append(report)  # `ladder` is called next.
    sdk = on_a_core(report, SDK)
    page, ours = (on_a_core(report, name) for name in (PAGE, OURS))
    slow = paced(version(OURS), *sizes(report.quick))
    found = [
        Target("Re-framed: at least 7 times the SDK", 7, page / sdk, "times"),
        Target("Passed through: at least 10 times the SDK", 10, ours / sdk, "times"),
    ]
    if NODE_PIPE not in report.left_out:
        events = page / on_a_core(report, NODE_EVENTS) * 100
        pipe = ours / on_a_core(report, NODE_PIPE) * 100
        found += [
            Target("Re-framed: at least 50 % of Node", 50, events, "%"),
            Target("Passed through: at least 50 % of Node", 50, pipe, "%"),
        ]
    return [
        *found,
        Target("A token is at most 1 ms later (median)", 1, slow.added, "ms", True),
    ]


def ladder(quick: bool) -> list[Table]:
    """Say what a token costs a core in each version, at once and at 50 a second."""
    report = REPORTS.pop()
    rows = []
    for one in VERSIONS:
        if one.name in report.left_out:
            continue
        slow = paced(one, *sizes(quick))
        cost = 1e6 / on_a_core(report, one.name)
        rows.append(
            [
                one.name,
                f"{on_a_core(report, one.name):,.0f}",
                f"{cost:.3g} µs",
                f"{slow.cost * 1e6:.3g} µs",
                f"{PACE / 1000 / slow.cost:,.0f}",
                f"{slow.added:.3g} ms",
            ]
        )
    head = ["Version", "Tokens/s and core", "A token", "at 50 a second"]
    return [Table("ladder", [*head, "Chats a core", "Later"], rows)]


BENCH = Bench(
    slug="llm_gateway",
    unit="tokens",
    versions=VERSIONS,
    ours=OURS,
    read=read,
    expected=expected,
    size=100_000,
    rounds=3,
    warm_up=200,
    quick_size=200,
    targets=targets,
    tables=ladder,
)
