"""An answer that outlives its process: what it costs to keep every token."""

import os
import re
import time
from typing import Any

from benchmarks.bench_llm_openai import ALONE, ASK, PACE, PROVIDER_PATH, asked, expected
from benchmarks.harness import Bench, Report, Target, app, started

OURS = "The recipe, on SQLite"
PLAIN = "Without keeping"
MODULE = "benchmarks.versions.llm_durable"
ANSWERS = 10  # of which the first token is timed


def read(body: bytes) -> list[Any]:
    """Take a body apart into its tokens, however many of them share an event."""
    text = body.decode()
    return re.findall(r"(t\d+);", text)


ours = app(
    OURS,
    f"{MODULE}:recipe_app",
    ASK,
    b";",
    "The recipe as it is on this page. Each request starts an answer under a key of "
    "its own and reads it. A write joins the tokens of 50 ms.",
)
plain = app(
    PLAIN,
    f"{MODULE}:plain_app",
    ASK,
    b";",
    "The recipe of Tokens as events: an event for each token, and nothing is kept.",
)
VERSIONS = [
    app(
        ALONE,
        "benchmarks.versions.llm_durable_provider:app",
        PROVIDER_PATH,
        b";",
        "A small server that writes tokens in OpenAI's format, as fast as it can. The "
        "others ask it for their tokens. It is much faster than a real model.",
    ),
    ours,
    plain,
]


def first_tokens(version: Any, answers: int) -> list[float]:  # noqa: ANN401
    """Tell how long the first token of each answer was on its way, in milliseconds."""
    found = []
    with started(version) as running:
        running.wait_until_it_listens()
        for _ in range(answers):
            before = time.monotonic()
            with asked(running.port, ASK.format(n=3)) as (_, body):
                while b"event: token" not in next(body):
                    pass
                found.append((time.monotonic() - before) * 1e3)
    return sorted(found)


def targets(report: Report) -> list[Target]:
    """Compare with the version that keeps nothing, at the pace of a real model."""
    answers = 3 if report.quick else ANSWERS
    recipe, without = report[OURS], report[PLAIN]
    chats = 1 / (recipe.cpu_seconds / report.size * 1000 / PACE)
    os.environ["PACE"] = f"/{PACE}"
    try:
        ours_first, plain_first = (
            first_tokens(version, answers) for version in (ours, plain)
        )
    finally:
        del os.environ["PACE"]
    middle = answers // 2
    added = ours_first[middle] - plain_first[middle]
    times = recipe.seconds / without.seconds
    return [
        Target("The first token at most 150 ms later (median)", 150, added, "ms", True),
        Target("At full speed at most twice the time", 2, times, "x", True),
        Target("At full speed at least 25 chats a core", 25, chats, "chats"),
    ]


BENCH = Bench(
    slug="llm_durable",
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
