"""Server-Sent Events: what each layer costs for an event, from the same producer."""

import json
from typing import Any

from benchmarks.harness import Bench, app, node

OURS = "The recipe, by hand: frame"
MODULE = "benchmarks.versions.sse_basic"
VERSIONS = f"{MODULE}:app"
END = b"\n\n"


def read(body: bytes) -> list[Any]:
    """Take a body apart into the fields of its events; the order of fields is free."""
    *blocks, rest = body.decode().replace("\r\n", "\n").split("\n\n")
    events: list[Any] = []
    for block in blocks:
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        events.append({**fields, "data": json.loads(fields["data"])})
    return [*events, rest] if rest else events


def expected(n: int) -> list[Any]:
    """Say what the events are, without the code that is measured."""
    return [
        {"event": "order", "id": str(i), "data": {"id": i, "state": "paid"}}
        for i in range(1, n + 1)
    ]


BENCH = Bench(
    slug="sse_basic",
    unit="events",
    versions=[
        app("Native, data=", VERSIONS, "/native?events={n}", END),
        app("Native, raw_data=", VERSIONS, "/native-raw?events={n}", END),
        # sse-starlette ends its lines with CR LF, which the standard allows as well.
        app("sse-starlette", VERSIONS, "/sse-starlette?events={n}", b"\r\n\r\n"),
        app("StreamingResponse of f-strings", VERSIONS, "/f-string?events={n}", END),
        app(OURS, VERSIONS, "/by-hand?events={n}", END),
        app("By hand, waiting events joined", VERSIONS, "/joined?events={n}", END),
        app("Raw ASGI, frame", f"{MODULE}:raw", "/?events={n}", END),
        node("Node http", "benchmarks/versions/sse_basic.mjs", "/?events={n}", END),
    ],
    ours=OURS,
    read=read,
    expected=expected,
    warm_up=500,
    quick_size=500,
)
