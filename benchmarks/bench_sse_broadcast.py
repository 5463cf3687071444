"""One order told to many listeners: what each layer costs for an event that arrives."""

import json
from typing import Any

from benchmarks.harness import Bench, Crowd, Report, Target, app, node
from benchmarks.listeners import MARK

NATIVE, OURS = "Native, a queue each", "The recipe"
RAW, NODE = "Raw ASGI, the recipe's feed", "Node http"
MODULE = "benchmarks.versions.sse_broadcast"
MANY = 5_000  # listeners
BY_NATIVE = "At least 5 times as fast as FastAPI's own SSE"
BY_RAW = "At least 90% of the speed of raw ASGI"
BY_NODE = "At least 45% of the speed of Node"


def read(body: bytes) -> list[Any]:
    """Take a body apart into the names and the data of its events."""
    blocks = body.decode().replace("\r\n", "\n").split("\n\n")
    events: list[Any] = []
    for block in blocks:
        lines = [line.partition(": ") for line in block.split("\n")]
        fields = {name: value for name, _, value in lines}
        if "data" in fields:
            events.append([fields["event"], json.loads(fields["data"])])
    return events


def expected(n: int) -> list[Any]:
    """Say what the events are, without the code that is measured."""
    return [["order", {"id": i, "state": "paid"}] for i in range(1, n + 1)]


def targets(report: Report) -> list[Target]:
    """Say what the recipe promises."""
    found = [Target(BY_NATIVE, 5, report.ratio(NATIVE), "times")]
    found.append(Target(BY_RAW, 90, report.ratio(RAW) * 100, "%"))
    if NODE not in report.left_out:
        found.append(Target(BY_NODE, 45, report.ratio(NODE) * 100, "%"))
    if report.crowd:
        late = next(r.most for r in report.crowd_results if r.name == OURS) or 0.0
        promise = (
            f"{report.crowd.listeners:,} listeners have 99% of the events within 1 s"
        )
        found.append(Target(promise, 1, late, "s", at_most=True))
    return found


BENCH = Bench(
    slug="sse_broadcast",
    unit="events",
    versions=[
        app(
            NATIVE,
            f"{MODULE}:layers",
            "/native",
            MARK,
            "FastAPI's own `fastapi.sse`, with a bounded `asyncio.Queue` for each "
            "listener. FastAPI writes the event anew for each of them.",
        ),
        app(
            "sse-starlette, a queue each",
            f"{MODULE}:layers",
            "/sse-starlette",
            MARK,
            "The library of this name, with the same queues. It also writes the event "
            "for each listener.",
        ),
        app(
            "Written once, a queue each",
            f"{MODULE}:queued",
            "/events",
            MARK,
            "A `StreamingResponse` of bytes that are the same for all, with a bounded "
            "`asyncio.Queue` for each listener.",
        ),
        app(
            OURS,
            f"{MODULE}:ours",
            "/events",
            MARK,
            "The recipe as it is on this page, in one process, but without the shop "
            "that tells something by itself.",
        ),
        app(
            "Raw ASGI, a queue each",
            f"{MODULE}:raw",
            "/events",
            MARK,
            "A function that hands each event to uvicorn itself, without FastAPI. It "
            "has a bounded `asyncio.Queue` for each listener.",
        ),
        app(
            RAW,
            f"{MODULE}:raw_feed",
            "/events",
            MARK,
            "The same function with the recipe's `Feed` instead of queues. The "
            "difference to the recipe is what FastAPI and Starlette cost.",
        ),
        node(
            NODE,
            "benchmarks/versions/sse_broadcast.mjs",
            "/events",
            MARK,
            "JavaScript with the `http` module of Node: a loop that writes the event "
            "to every response.",
        ),
    ],
    ours=OURS,
    read=read,
    expected=expected,
    warm_up=20,
    crowds=(
        Crowd(listeners=1_000, orders=40, rounds=5),
        Crowd(listeners=MANY, orders=5, rounds=3, pace=1.0),
    ),
    quick_size=1_000,
    quick_crowds=(
        Crowd(listeners=50, orders=20, rounds=2),
        Crowd(listeners=100, orders=2, rounds=1),
    ),
    targets=targets,
    why={
        BY_RAW: "FastAPI and Starlette stand between the feed and the server. Each "
        "message passes three wrappers of `send` (for errors of the server, for "
        "exceptions, for the route), which alone take raw ASGI to 91%. A response "
        "class of our own, without a generator, came to 82% to 87%. That was not worth "
        "the code, and nothing that FastAPI offers removes the wrappers."
    },
)
